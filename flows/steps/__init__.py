"""Parts of the flow: the order of the stages, console output, history, the summary."""
