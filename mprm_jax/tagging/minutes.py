"""What the tags of a data set cost: minutes of a person a scene, balls, tags per ball, clicks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mprm_jax.progress import Report
from mprm_jax.tagging.tag_files import Evidence


class Cost(NamedTuple):
    """What people did on one scan, or on several."""

    seconds: float  # that were noted
    timed: int  # answers of which the time is known
    balls: int  # with tags
    tags: int  # of these balls
    unsure: int  # balls of which they did not know
    scenes: int  # tagged as a whole
    clicks: int

    def plus(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def answers(self) -> int:
        return self.balls + self.unsure + self.scenes + self.clicks

    def values(self) -> dict[str, Any]:
        """For JSON; None where there is nothing to divide by."""
        return {
            "minutes": round(self.seconds / 60, 2),
            "balls": self.balls,
            "unsure": self.unsure,
            "tags_per_ball": round(self.tags / self.balls, 2) if self.balls else None,
            "scene_tags": self.scenes,
            "clicks": self.clicks,
            "answers": self.answers,
            "answers_with_time": self.timed,
        }


def cost_of(evidence: Evidence, scene: str) -> Cost:
    """What people did on one scan."""
    said, clicks = evidence.said(scene), evidence.clicks.rows.get(scene, ())
    seconds = [what.seconds for _, what in said] + [row.seconds for row in clicks]
    balls = [what for row, what in said if row.ball is not None and not what.unsure]
    noted = [value for value in seconds if value is not None]
    return Cost(
        seconds=sum(noted),
        timed=len(noted),
        balls=len(balls),
        tags=sum(len(what.tags) for what in balls),
        unsure=sum(row.ball is not None and what.unsure for row, what in said),
        scenes=sum(row.ball is None and not what.unsure for row, what in said),
        clicks=len(clicks),
    )


def count_minutes(evidence: Evidence, scenes: Sequence[str]) -> Report:
    """The cost of every scan that anyone worked on, and of all of them."""
    costs = {scene: cost_of(evidence, scene) for scene in scenes}
    worked = {scene: cost for scene, cost in costs.items() if cost.answers}
    total = Cost(0.0, 0, 0, 0, 0, 0, 0)
    for cost in worked.values():
        total = total.plus(cost)
    mean = round(total.seconds / 60 / len(worked), 2) if worked else None
    values = {
        "scenes": {scene: cost.values() for scene, cost in worked.items()},
        "total": total.values() | {"scenes": len(worked), "minutes_per_scene": mean},
        "untouched": len(scenes) - len(worked),
    }
    return Report(values, _table(worked, total, len(scenes)))


def _table(worked: dict[str, Cost], total: Cost, num_scenes: int) -> str:
    if not worked:
        return f"none of {num_scenes} scans has a tag or a click yet."
    width = max(5, *(len(scene) for scene in worked))
    head = f"{'scan':{width}}  minutes  balls  tags/ball  not sure  whole scan  clicks"
    rows = [_row(scene, cost, width) for scene, cost in worked.items()]
    rows += ["", _row("all", total, width)]
    each = total.seconds / 60 / len(worked)
    last = f"{len(worked)} of {num_scenes} scans begun; {each:.1f} minutes each."
    if total.timed < total.answers:
        last += f" Answers without a time, counted as 0: {total.answers - total.timed}."
    return "\n".join([head, *rows, "", last])


def _row(name: str, cost: Cost, width: int) -> str:
    per_ball = f"{cost.tags / cost.balls:9.1f}" if cost.balls else f"{'-':>9}"
    return (
        f"{name:{width}}  {cost.seconds / 60:7.1f}  {cost.balls:5}  {per_ball}  {cost.unsure:8}  "
        f"{cost.scenes:10}  {cost.clicks:6}"
    )
