"""The training methods, one file each; `sfumato.train.registry` lists them."""
