"""The paper's drawings of networks (Fig. 1, 2, 4, 5), from the specification and from networks as they are built."""
