"""From a trained network to the form in which it runs: faster, smaller, exported."""
