"""One file a figure; what figures share is in families (colours), style and plate."""
