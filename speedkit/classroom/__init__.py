"""What a course needs: predictions, saved results, the class board, the check of a machine."""
