"""One file a data set; its name in params.yaml is the file's."""
