"""One file per paper, in the order of the paper's sections. They define no layer; they compose parts into training steps."""
