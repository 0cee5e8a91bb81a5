"""What every stage that trains shares: settings, one phase of training, live curves, plan and peak."""
