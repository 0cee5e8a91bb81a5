"""The parts of the flow: graph, console, history, summary."""
