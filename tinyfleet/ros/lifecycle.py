"""A lifecycle node that hosts one part of a fleet.

All that a part does happens in the event loop, one transition after the other; rclpy's executor
never waits for it. A transition runs in a helper thread, because rclpy's state machine calls its
callbacks and wants their answer: the callback hands the part's coroutine to the loop, and waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from tinyfleet.config import Settings, setting
from tinyfleet.errors import Refused, TinyFleetError, one_line, unknown_name
from tinyfleet.logs import fields
from tinyfleet.readings import Level, Reading, Readings
from tinyfleet.ros.answers import answer_from, create_service
from tinyfleet.ros.diagnostics import Diagnostics
from tinyfleet.ros.logs import send_logs_to, set_level
from tinyfleet.ros.parameters import Parameters

DIAGNOSTICS_S = 1.0
ALWAYS_OPEN = frozenset({"log_level"})
SettingsIn = TypeVar("SettingsIn", contravariant=True)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

# What ChangeState's ids mean; the node's state says which of the shutdowns it is.
_LABELS = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
    Transition.TRANSITION_CLEANUP: "cleanup",
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: "shutdown",
    Transition.TRANSITION_INACTIVE_SHUTDOWN: "shutdown",
    Transition.TRANSITION_ACTIVE_SHUTDOWN: "shutdown",
}

log = logging.getLogger("lifecycle")


@dataclass(frozen=True)
class Autostart:
    """The one parameter that is no setting of the part."""

    autostart: bool = setting(False, help="configure and activate at the start, without being told")


class Part(Protocol[SettingsIn]):
    """What a node hosts. All of it is called in the event loop, in the order of the lifecycle.

    What raises a TinyFleetError is answered with FAILURE and one line in the log; the node stays as
    it was, and so must the part.
    """

    async def configure(self, settings: SettingsIn) -> None:
        """Validate the settings and open what is needed."""

    async def activate(self) -> None:
        """Start to work, or go on."""

    async def deactivate(self) -> None:
        """Pause: what was begun is finished, what is known is kept."""

    async def cleanup(self) -> None:
        """Close what `configure` opened."""

    async def ended(self) -> None:
        """Wait until an active part cannot go on; returns or raises then. Cancelled at a pause."""


class HostedNode(LifecycleNode, Generic[Settings]):
    """The node. Made in the event loop, before the executor has it."""

    def __init__(
        self,
        name: str,
        settings: type[Settings],
        make_part: Callable[[HostedNode[Settings]], Part[Settings]],
    ) -> None:
        """make_part: is given the node and may add to it: see `declare_settings`, `add_trigger`,
        `add_readings`, and rclpy's `create_subscription` and `create_publisher`.

        settings: has the fields log_level and log_format.
        """
        super().__init__(name)
        self.loop = asyncio.get_running_loop()
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._problem = ""
        self._claimed: set[str] = {"use_sim_time"}
        self.starts_by_itself = self.declare_settings(Autostart).read().autostart
        self._parameters_of_part = self.declare_settings(settings)
        self._set_up_logs()
        self.diagnostics = Diagnostics(self)
        self._part = make_part(self)
        self._serve_transitions()
        self._say_what_is_unknown()
        self._spawn(self._publish_diagnostics())

    # For parts

    def declare_settings(self, settings: type[Any], prefix: str = "") -> Parameters[Any]:
        """Declare a settings class as parameters, `prefix` before their names, e.g. "stream."."""
        declared = Parameters(
            self,
            settings,
            prefix,
            given={name: one.value for name, one in self._parameter_overrides.items()},
            is_open=lambda name: name in ALWAYS_OPEN or self.state == "unconfigured",
        )
        self._claimed.update(declared.names)
        return declared

    def add_readings(self, source: Readings) -> None:
        """Publish what `source` tells on /diagnostics, and on ~/status what of it is not well."""
        self.diagnostics.add(source)

    def add_trigger(self, name: str, work: Callable[[], Awaitable[str]]) -> None:
        """A std_srvs/Trigger service; `work` runs in the loop and gives the message.

        A TinyFleetError from it is `success: false` with its text.
        """

        async def answer(_: Any, response: Any) -> Any:
            try:
                response.success, response.message = True, await work()
            except TinyFleetError as error:
                response.success, response.message = False, str(error)
            except Exception:
                log.exception("unexpected error", extra=fields(service=name))
                response.success, response.message = False, "internal error; the log has it"
            return response

        create_service(self, Trigger, name, answer, self.loop)

    # Transitions

    @property
    def state(self) -> str:
        """The lifecycle's state: unconfigured, inactive, active, finalized, or one in between."""
        return str(self._state_machine.current_state[1])

    async def configure(self) -> bool:
        """The transition; whether it succeeded. So do the others."""
        return await self._change(self.trigger_configure)

    async def activate(self) -> bool:
        return await self._change(self.trigger_activate)

    async def deactivate(self) -> bool:
        return await self._change(self.trigger_deactivate)

    async def clean_up(self) -> bool:
        return await self._change(self.trigger_cleanup)

    async def shut_down(self) -> bool:
        """To the end, from any state; what is trained or received is kept or delivered before."""
        if self.state == "finalized":
            return True
        return await self._change(self.trigger_shutdown)

    async def close(self) -> None:
        """Stop what the node does in the loop; before it is destroyed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _change(self, trigger: Callable[[], TransitionCallbackReturn]) -> bool:
        async with self._changing:
            done = await asyncio.to_thread(trigger)
        self.diagnostics.publish_change(self._lifecycle())
        return bool(done == SUCCESS)

    # What rclpy calls, in the helper thread

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._perform("configure", self._configure())

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        done = self._perform("activate", self._activate())
        return super().on_activate(state) if done == SUCCESS else done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        done = self._perform("deactivate", self._deactivate())
        return super().on_deactivate(state) if done == SUCCESS else done

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._perform("clean up", self._part.cleanup())

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label == "active":
            self._perform("deactivate", self._deactivate())
        if state.label in {"active", "inactive"}:
            self._perform("clean up", self._part.cleanup())
        return SUCCESS

    def _perform(self, what: str, work: Coroutine[Any, Any, None]) -> TransitionCallbackReturn:
        """Have the loop do it, and wait."""
        try:
            asyncio.run_coroutine_threadsafe(work, self.loop).result()
        except TinyFleetError as error:
            self._problem = str(error)
            log.error("transition failed", extra=fields(transition=what, reason=error))
            return FAILURE
        except Exception as error:
            self._problem = f"internal error: {type(error).__name__}"
            log.exception("transition failed", extra=fields(transition=what))
            return FAILURE
        log.info("transition done", extra=fields(transition=what))
        return SUCCESS

    async def _configure(self) -> None:
        await self._part.configure(self._parameters_of_part.read())
        self._problem = ""

    async def _activate(self) -> None:
        await self._part.activate()
        self._problem = ""
        self._watching = self._spawn(self._watch())

    async def _deactivate(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        try:
            await self._part.deactivate()
        except BaseException:
            self._watching = self._spawn(self._watch())
            raise

    async def _watch(self) -> None:
        """Pause by ourselves once the part cannot go on."""
        try:
            await self._part.ended()
            self._problem = "it ended by itself"
        except TinyFleetError as error:
            self._problem = str(error)
        except Exception as error:
            self._problem = f"internal error: {type(error).__name__}"
            log.exception("unexpected error")
        log.error("cannot go on, pausing", extra=fields(reason=self._problem))
        self._watching = None
        self._spawn(self.deactivate())

    # Services, parameters, diagnostics

    def _serve_transitions(self) -> None:
        change = next(one for one in self.services if one.srv_type is ChangeState)
        answer_from(change, self, self._change_state, self.loop)
        self.add_trigger("~/start", self.start)
        self.add_trigger("~/pause", self._pause)
        self.add_trigger("~/stop", self._stop)

    async def _change_state(self, request: Any, response: Any) -> Any:
        """Answer ChangeState; a label goes before an id, as in rclpy."""
        wanted = request.transition
        change = self._transition(wanted.label or _LABELS.get(wanted.id, ""))
        if change is None:
            about = fields(label=one_line(wanted.label), id=wanted.id)
            log.error("unknown transition", extra=about)
            response.success = False
        else:
            response.success = await change()
        return response

    def _transition(self, label: str) -> Callable[[], Awaitable[bool]] | None:
        return {
            "configure": self.configure,
            "activate": self.activate,
            "deactivate": self.deactivate,
            "cleanup": self.clean_up,
            "shutdown": self.shut_down,
        }.get(label)

    async def start(self) -> str:
        """Configure, where needed, and activate. Raises Refused with what went wrong."""
        if self.state == "unconfigured":
            self._require(await self.configure())
        if self.state == "inactive":
            self._require(await self.activate())
        return self._now("active")

    async def _pause(self) -> str:
        if self.state == "active":
            self._require(await self.deactivate())
        return self._now("inactive")

    async def _stop(self) -> str:
        if self.state == "active":
            self._require(await self.deactivate())
        if self.state == "inactive":
            self._require(await self.clean_up())
        return self._now("unconfigured")

    def _require(self, succeeded: bool) -> None:
        if not succeeded:
            raise Refused(self._problem or "the log says why not")

    def _now(self, wanted: str) -> str:
        if self.state != wanted:
            raise Refused(f"the node is {self.state}")
        return wanted

    def _set_up_logs(self) -> None:
        level, look = (str(self.get_parameter(f"log_{what}").value) for what in ("level", "format"))
        send_logs_to(self.get_logger(), level, look)
        self.add_post_set_parameters_callback(self._take_log_level)

    def _take_log_level(self, parameters: list[Parameter[Any]]) -> None:
        for one in parameters:
            if one.name == "log_level":
                set_level(self.get_logger(), str(one.value))

    def _say_what_is_unknown(self) -> None:
        for name in sorted(set(self._parameter_overrides) - self._claimed):
            if not name.startswith("qos_overrides."):
                about = fields(reason=unknown_name("parameter", name, self._claimed))
                log.warning("parameter ignored", extra=about)

    async def _publish_diagnostics(self) -> None:
        while True:
            self.diagnostics.publish(self._lifecycle())
            await asyncio.sleep(DIAGNOSTICS_S)

    def _lifecycle(self) -> Reading:
        level = Level.ERROR if self._problem else Level.OK
        return Reading("lifecycle", level, self._problem or self.state, {"state": self.state})

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
