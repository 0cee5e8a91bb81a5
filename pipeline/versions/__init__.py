"""Which version of the model is in use: what is published, how it is judged, promoted and shown. Knows no MLflow."""
