"""What people say about answers: stored, reviewed, and given back to training."""
