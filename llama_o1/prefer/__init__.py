"""`llama-o1 prefer`: a model is taught which of two solutions is the better one."""
