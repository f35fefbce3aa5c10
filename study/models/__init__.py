"""Networks: heads, decoder, backbones, and what they weigh and cost."""
