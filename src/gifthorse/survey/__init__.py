"""People as judges: a study from a finished run, served as plain forms, exported as rows for the board."""
