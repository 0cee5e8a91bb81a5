"""The page: chat, an educator's view and an operator's view in three files, and the routes of what only the page needs."""
