"""Objects: payloads and results, and the signed links that fetch them."""
