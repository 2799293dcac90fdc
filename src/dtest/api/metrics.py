"""Metrics of a cell, read from its folded state at each scrape."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import dtest
from dtest.api.context import ApiContext
from dtest.journal.room import Filling


class CellCollector(Collector):
    """The figures of one moment."""

    def __init__(
        self, context: ApiContext, journal_seq: int | None, filling: Filling | None
    ) -> None:
        self._context = context
        self._journal_seq = journal_seq
        self._filling = filling

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
        if self._journal_seq is not None:
            lag = max(0, self._journal_seq - projector.seq)
            yield GaugeMetricFamily(
                "dtest_projection_lag_messages", "Messages not yet projected", value=lag
            )
        projected = CounterMetricFamily("dtest_events_projected", "Events projected here")
        projected.add_metric([], projector.projected)
        yield projected
        yield from self._admission()
        if self._filling is not None:
            yield from _journal(self._filling)

    def _admission(self) -> Iterable[Metric]:
        admission = self._context.admission
        answers = CounterMetricFamily(
            "dtest_api_requests",
            "Requests that were let in, or refused because a bound was reached",
            labels=["lane", "answer"],
        )
        flying = GaugeMetricFamily(
            "dtest_api_requests_in_flight", "Requests that are answered now", labels=["lane"]
        )
        for lane in admission.lanes.all():
            answers.add_metric([lane.kind, "accepted"], lane.accepted)
            answers.add_metric([lane.kind, "refused"], lane.refused)
            flying.add_metric([lane.kind], lane.count)
        yield answers
        yield flying
        yield GaugeMetricFamily(
            "dtest_backlog_tasks", "Unfinished tasks", value=self._context.unfinished()
        )
        refused = CounterMetricFamily(
            "dtest_submissions_refused",
            "Tasks refused because of the backlog, submissions because of the journal's filling",
            labels=["bound"],
        )
        refused.add_metric(["backlog"], admission.backlog.refused)
        refused.add_metric(["journal"], self._context.room.refused)
        yield refused
        left = CounterMetricFamily(
            "dtest_event_readers_left", "Event streams closed because their reader was too slow"
        )
        left.add_metric([], admission.readers_left)
        yield left


def _journal(filling: Filling) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "dtest_journal_used_bytes", "What the journal holds", value=filling.used_bytes
    )
    if filling.max_bytes is not None:
        yield GaugeMetricFamily(
            "dtest_journal_max_bytes", "What the journal may hold", value=filling.max_bytes
        )
        yield GaugeMetricFamily(
            "dtest_journal_reserve_bytes",
            "What clients leave of that to results and decisions",
            value=filling.reserve_bytes,
        )


def registry_of(
    context: ApiContext, journal_seq: int | None, filling: Filling | None
) -> CollectorRegistry:
    """Return a registry with the cell's figures of this moment."""
    registry = CollectorRegistry()
    registry.register(CellCollector(context, journal_seq, filling))
    return registry
