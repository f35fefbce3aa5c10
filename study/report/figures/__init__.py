"""One file per figure. What they share is in families (colours), style and plate."""
