"""Metrics of a cell, read from its folded state at each scrape."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import dtest
from dtest.api.context import ApiContext


class CellCollector(Collector):
    """The figures of one moment."""

    def __init__(self, context: ApiContext, journal_seq: int) -> None:
        self._context = context
        self._journal_seq = journal_seq

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        projector = self._context.projector
        cell = projector.rows.cell
        info = GaugeMetricFamily("dtest_build_info", "Version of dtest", labels=["version"])
        info.add_metric([dtest.__version__], 1)
        yield info
        ended = CounterMetricFamily("dtest_tasks_ended", "Tasks that ended", labels=["status"])
        for status, count in sorted(cell.ended.items()):
            ended.add_metric([str(status)], max(0, count))
        yield ended
        yield GaugeMetricFamily(
            "dtest_queue_depth_tasks",
            "Tasks that could start if a worker were free",
            value=sum(len(demand.queue) for demand in list(cell.ready.values())),
        )
        heads = [demand.queue[0] for demand in list(cell.ready.values()) if demand.queue]
        oldest = [cell.tasks[head[3]].queued_at for head in heads]
        age = self._context.now() - min(oldest) if oldest else 0.0
        yield GaugeMetricFamily(
            "dtest_queue_oldest_age_seconds", "Age of the oldest head of a queue", value=age
        )
        workers = GaugeMetricFamily("dtest_workers", "Workers", labels=["status"])
        tally = Tally(str(worker.status) for worker in list(cell.workers.values()))
        for name, count in tally.items():
            workers.add_metric([name], count)
        yield workers
        refused = CounterMetricFamily("dtest_events_refused", "Events that were refused")
        refused.add_metric([], cell.refused)
        yield refused
        yield GaugeMetricFamily("dtest_leader_epoch", "Epoch of the leader", value=cell.epoch)
        lag = max(0, self._journal_seq - projector.seq)
        yield GaugeMetricFamily(
            "dtest_projection_lag_messages", "Messages not yet projected", value=lag
        )
        projected = CounterMetricFamily("dtest_events_projected", "Events projected here")
        projected.add_metric([], projector.projected)
        yield projected


def registry_of(context: ApiContext, journal_seq: int) -> CollectorRegistry:
    """Return a registry with the cell's figures of this moment."""
    registry = CollectorRegistry()
    registry.register(CellCollector(context, journal_seq))
    return registry
