"""What a controller does for ever beside its calls: it follows the catalogue, empties the outbox, listens to people.

Each loop runs until it is cancelled; one that breaks is begun again by the controller.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from billing import outbox
from billing.catalogue import Catalogue, catalogue_version, load_catalogue
from billing.plans.bundles import expire_bundles
from billing.plans.volumes import Usage, read_usage
from billing.store import reading
from callctl import memory
from callctl.call import HangupAsked, MoneyGrew
from callctl.journal import JournalBroken
from callctl.pins import Guesses, alert_people

if TYPE_CHECKING:
    from callctl.controller import Controller

log = structlog.get_logger(__name__)

EXPIRE_S = 60.0


class Upkeep:
    """One for a controller."""

    def __init__(self, controller: Controller) -> None:
        self._its = controller

    async def follow_catalogue(self) -> None:
        """Load the catalogue when it has moved; keep what is in the credit store up to date with it.

        Whatever is interrupted is done again from the start: no call is admitted before all of it has been done.
        """
        its = self._its
        while True:
            version = await asyncio.to_thread(self._catalogue_version)
            lost = await its.restorer.has_lost()
            if its.catalogue is None or its.catalogue.version != version or not its.admits.is_set():
                its.catalogue = await asyncio.to_thread(self._load_catalogue)
                if lost:
                    await its.restorer.bring_back()
                else:
                    await outbox.sync_all(its.engine, its.credit, clock=its.clock)
                memory.settle_down()
                if not its.restorer.lost:
                    its.admits.set()
            elif its.catalogue.counts:
                usage = await asyncio.to_thread(self._read_usage)
                its.catalogue = replace(its.catalogue, usage=usage)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await its.restorer.noticed.wait()

    def _catalogue_version(self) -> int:
        with reading(self._its.engine) as session:
            return catalogue_version(session)

    def _read_usage(self) -> Usage:
        with reading(self._its.engine) as session:
            return read_usage(session)

    def _load_catalogue(self) -> Catalogue:
        with reading(self._its.engine) as session:
            return load_catalogue(session, self._its.catalogue, pins=self._its.brake.on)

    async def tell_of(self, guesses: Guesses) -> None:
        """Raise an alert of PINs that are being guessed; the log has told of them already."""
        its = self._its
        try:
            await asyncio.to_thread(alert_people, its.engine, guesses, now=its.clock.now())
        except SQLAlchemyError as error:
            log.warning("alert_not_raised", error=type(error).__name__)

    async def drain_outbox(self) -> None:
        """Tell the credit store of every posting that others have made."""
        its = self._its
        while True:
            if not await outbox.drain(its.engine, its.credit, clock=its.clock):
                await asyncio.sleep(0.5)

    async def expire_bundles(self) -> None:
        """Take out what is left in bundles that have expired. While holds may be missing nothing is taken."""
        its = self._its
        while True:
            await asyncio.sleep(EXPIRE_S)
            if its.ready:
                await expire_bundles(its.engine, its.credit, clock=its.clock)

    async def probe_journal(self) -> None:
        """While the journal is broken new calls are refused; find out when it is whole again."""
        its = self._its
        while True:
            await asyncio.sleep(1.0)
            if its.journal.broken:
                with contextlib.suppress(JournalBroken):
                    await its.journal.probe()
                    log.warning("journal_whole_again")

    async def listen_to_wakes(self) -> None:
        """Tell calls that are short of money when a wallet that pays for them has more."""
        its = self._its
        async for wallet_id in its.credit.wakes():
            for call in list(its.calls.values()):
                if call.exhausted and any(wallet_id in level.wallets() for level in call.terms.levels):
                    its.give(call, MoneyGrew())

    async def listen_to_hangups(self) -> None:
        """End what people on the panel, the API or the command line want ended: a call, or all of an account."""
        its = self._its
        async for request in its.live.hangups():
            log.info("hangup_asked", call_id=request.call_id, actor=request.actor)
            account = request.call_id.removeprefix("*account:") if request.call_id.startswith("*account:") else None
            for call in list(its.calls.values()):
                payers = {str(level.account_id) for level in call.terms.levels}
                if call.call_id == request.call_id or account in payers:
                    its.give(call, HangupAsked("hung_up_by_admin"))
