"""What the evaluated model was trained on: its data by source and license, and evaluation items among them."""
