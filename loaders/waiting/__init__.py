"""Why a training run waits: what threads spend time on, what the consumer waited for, what to do about it, and doing some of it."""
