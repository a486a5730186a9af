"""Cross-resolution feature distillation: a low-resolution student learns the features of a high-resolution teacher."""
