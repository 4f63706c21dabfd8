"""SLA timers on a helpdesk's Kafka bus: on time, exactly once, explainable to the second."""

__version__ = "0.1.0"
