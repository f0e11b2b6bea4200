"""What operators see: metrics and ages of jobs, outages said once, and of each request its id, log line and trace."""
