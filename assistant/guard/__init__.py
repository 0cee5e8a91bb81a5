"""The guard: what texts ask for, what they reveal, and what is said instead. Apart from the model that answers."""
