"""The journal of answers, the audit log, and what is asked of both: why, explain, verify, erase."""
