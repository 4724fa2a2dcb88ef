"""One pair loss a file: a pure function of log-probabilities, equations numbered."""
