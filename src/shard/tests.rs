//! Scenario tests of the shard (to come in the next step).
