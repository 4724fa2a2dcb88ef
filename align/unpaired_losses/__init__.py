"""One loss over replies that are each good or bad by themselves a file (``unpaired_loss=``)."""
