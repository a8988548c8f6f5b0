"""`northstar preview`: what the working tree would change in the published values."""
