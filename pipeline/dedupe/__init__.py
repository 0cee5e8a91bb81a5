"""Stage `dedupe`: documents that repeat another document are dropped."""
