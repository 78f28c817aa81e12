"""What a course needs: predictions, saved results, the class board, the machine check."""
