"""Metrics, traces, the dashboard."""
