"""What a policy, a reward or a file of judgements can be measured by; one file a benchmark."""
