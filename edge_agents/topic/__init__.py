"""Samples from a stream of messages: fields, windows, labels, a bounded queue. Knows no ROS."""
