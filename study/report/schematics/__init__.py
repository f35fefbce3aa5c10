"""The paper's drawings of networks, drawn from the specification."""
