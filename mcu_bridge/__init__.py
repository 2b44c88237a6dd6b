"""Microcontrollers attached to an agent, and the C learner that they share with it."""
