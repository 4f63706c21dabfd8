"""Dashboards as code: `python -m grafana` writes dashboards/*.json from overview, handoffs and health.

Development only: the worker does not import this. Series come from worker/views/metrics.py; `answers` asks a Prometheus
what the committed dashboards ask, for the tests and for the preview.
"""
