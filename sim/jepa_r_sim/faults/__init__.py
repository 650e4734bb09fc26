"""Fault injection: what is hurt, the engines that hurt it, and what is made of the results."""
