"""The original layouts that several families share: how each network is named in a file, and its sizes from shapes."""
