"""Shared by the stages that train: settings, one training phase, live curves, the peak of a device."""
