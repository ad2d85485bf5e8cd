"""From words to embeddings: tokenizers, the prompt language, and the windows of text encoders."""
