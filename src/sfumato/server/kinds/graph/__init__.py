"""Graphs of nodes, as ComfyUI has them: which nodes there are, how a graph is checked, and how it is worked on."""
