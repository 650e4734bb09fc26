"""One port to memory for two masters, each of which keeps its own contract."""

from fractions import Fraction

from amaranth import *
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .axi import AxiSignature, Response
from .buffer import BeatBuffer
from .pacer import Pacer
from .skid import SkidBuffer

__all__ = ["Arbiter"]

#: Masters.
_MASTERS = 2


class Arbiter(Macro):
    r"""Share an AXI4 port between two masters, so that each sees a memory of its own.

    Let the memory promise rate r and latency L (:mod:`jepa_r.dma.bound` says what that means), and
    let the masters' contracts have rates :math:`r_0 + r_1 \le r`. Then master i sees a memory that
    promises :math:`(r_i, L + A)` with A = :meth:`added`, for reads and for writes, whatever the
    other master does. (D. Stiliadis, A. Varma, "Latency-rate servers: a general model for analysis
    of traffic scheduling algorithms", IEEE/ACM Transactions on Networking, 1998.)

    Write w for the bytes of a beat, :math:`T_i = w / r_i \ge 1` for the time of a beat at a
    master's rate, :math:`N_i` for its longest burst, and q for the other master.

    **Reads.** Burst k of master i, asked for in cycle :math:`a_k`, waits in a queue, then for room
    for all its :math:`n_k` beats in the master's buffer, from :math:`c_k` on, then for its turn by
    the master's rate: it begins at :math:`S_k = \max(a_k + 1, c_k, S_{k-1} + n_{k-1} T_i)`
    (:class:`~.Pacer`), and is released in cycle :math:`\lceil S_k \rceil`.

    1. *Grants.* A cycle later it can be granted, one burst a cycle, the masters in turn. In t
       cycles master i releases fewer than :math:`1 + t / T_i` bursts, both together at most t + 1,
       so that never more than 2 wait, and a burst waits at most 2 cycles: for one of its own master
       and one of the other. It is on the bus a cycle later, in
       :math:`A_k \le \lceil S_k \rceil + 4 < S_k + 5`.
    2. *Memory.* The port is never kept waiting with an answer, so beat m of burst k comes at
       :math:`D \le A_s + L + V w / r`, where V beats were asked for in cycles :math:`A_s` to
       :math:`A_k` and up to beat m. Those of q were released from :math:`A_s - 4` on, so
       :math:`V_q T_q \le A_k - A_s + 5 + N_q T_q`; those of i before burst k take
       :math:`V_i T_i \le S_k - A_s + 5`. With :math:`w / r = T_i r_i / r`, and as
       :math:`(r_0 + r_1) / r \le 1`:
       :math:`D \le S_k + L + 10 + N_q w / r + m w / r`.
    3. *Contract.* By :math:`(r_i, L')` the beat may come as late as
       :math:`d = \max(a_k + L', d_{k-1}) + m T_i`, with :math:`d_{k-1}` that of the last beat
       before it, or when that was taken, if later. By induction
       :math:`d \ge S_k - 1 + L' + m T_i`: where S comes from a or from S before, directly; where it
       comes from c, the beat that made room was taken in cycle c - 1, and the buffer's
       :math:`N_i + (L + A) / T_i` beats take as long by the contract.
    4. So :math:`L' = L + 11 + N_q w / r` and what a beat spends in the buffer
       (``BeatBuffer.LATENCY``) do.

    **Writes.** A beat is taken into the master's buffer when the contract says, not earlier. Burst
    k is released in the cycle :math:`Z_k` behind the one that took its last beat, is granted by
    :math:`Z_k + 2`, and the order of grants is that of the data on the bus, without a cycle between
    two bursts; the first beat is there :math:`d = 4` cycles after the grant at the latest.
    As above, :math:`V_q T_q \le Z_k - G_s + 5 + N_q T_q` and
    :math:`V_i T_i \le Z_k - G_s + 3 + N_i T_i`, so the last beat is taken by
    :math:`Z_k + d + 5 + (N_0 + N_1) w / r`, and answered within L. The answer waits a cycle:
    :math:`L' = L + 11 + (N_0 + N_1) w / r`.

    If the masters never use memory at the same time, none of this is needed, and ``concurrent`` is
    false: requests and data to write spend a cycle in a register, and the rest are wires.

    What leaves for memory waits in a :class:`~.SkidBuffer`: ``ready`` of the port comes through
    board or interconnect, late in its cycle, and must not be on the way to a master's ``ready``.

    A request of the master is taken at once while no more than ``outstanding`` of its bursts are
    under way; the memory must allow those of all masters that run at once. Answers keep the order
    of each master. A word that no code could correct is an answer with SLVERR; it is not written.

    Parameters
    ----------
    memory : :class:`jepa_r.config.MemoryContract`
        What memory promises.
    masters : sequence of two :class:`jepa_r.config.MemoryContract`
        What each master is promised; master n has ID n.
    concurrent : :class:`bool`
        Whether both may use memory at the same time.
    ecc : :class:`bool`
        Whether buffers carry a code.
    address_bits : :class:`int`
        Width of addresses on the bus.

    Members
    -------
    masters : ``In(AxiSignature(...)).array(2)``
        The masters' ports. Bursts are of whole beats that count up, no longer than the contract's;
        a write is asked for no later than its last beat is offered.
    axi : ``Out(AxiSignature(...))``
        Memory.
    ready : ``Out(1)``
        Buffers are cleared; until then masters must rest.
    corrected : ``Out(32)``
        Words of buffers that were corrected.
    inject : ``In(2)``
        As of :class:`~jepa_r.memory.sram.Sram`, for tests.

    Raises
    ------
    :exc:`ValueError`
        If beats differ, memory is too slow or takes too few bursts, or a master is promised a
        latency that cannot be kept.
    """

    #: Cycles that a read of two masters may take longer than the memory's, but for those in which
    #: the other's burst is on the bus.
    READ = 11 + BeatBuffer.LATENCY

    #: The same of a write.
    WRITE = 11

    #: Cycles that a read or a write of one master alone may take longer.
    ALONE = 1

    @classmethod
    def added(cls, *, memory, masters, concurrent):
        """Cycles A that the masters' latency must be above the memory's, for both of them."""
        if not concurrent:
            return cls.ALONE
        bursts = [master.burst_beats for master in masters]
        beat = Fraction(memory.data_bytes, memory.bytes_per_cycle)
        return -(-max(cls.READ + max(bursts) * beat, cls.WRITE + sum(bursts) * beat) // 1)

    def __init__(self, *, memory, masters, concurrent, ecc, address_bits=32):
        added = self.added(memory=memory, masters=masters, concurrent=concurrent)
        together = sum if concurrent else max
        rate = together(master.bytes_per_cycle for master in masters)
        if rate > memory.bytes_per_cycle:
            raise ValueError(
                f"memory.bytes_per_cycle is {memory.bytes_per_cycle}; the masters ask for {rate}"
            )
        bursts = together(master.outstanding for master in masters)
        if bursts > memory.outstanding:
            raise ValueError(
                f"memory.outstanding is {memory.outstanding}; the masters have {bursts}"
            )
        for n, master in enumerate(masters):
            if master.data_bytes != memory.data_bytes:
                raise ValueError(
                    f"masters[{n}].data_bytes is {master.data_bytes}; it must be that of memory, "
                    f"{memory.data_bytes}"
                )
            if master.latency < memory.latency + added:
                raise ValueError(
                    f"masters[{n}].latency is {master.latency}; it must be at least "
                    f"{memory.latency + added}, {added} more than that of memory"
                )
        self._memory = memory
        self._contracts = tuple(masters)
        self._concurrent = concurrent
        self._added = added
        signature = AxiSignature(data_bytes=memory.data_bytes, address_bits=address_bits)
        # What a buffer holds: a beat, with its answer, or its strobes; and which is the last.
        width = 8 * memory.data_bytes
        self._buffers = {}
        if concurrent:
            for n in range(_MASTERS):
                self._buffers["read", n] = BeatBuffer(
                    width=width + 3, depth=self.read_beats(n), ecc=ecc
                )
                self._buffers["write", n] = BeatBuffer(
                    width=width + memory.data_bytes + 1, depth=self.write_beats(n), ecc=ecc
                )
        super().__init__(
            {
                "masters": In(signature).array(_MASTERS),
                "axi": Out(signature),
                "ready": Out(1),
                "corrected": Out(32),
                "inject": In(2),
            },
            macro_name="arbiter",
        )

    def _interval(self, master):
        contract = self._contracts[master]
        return Fraction(contract.data_bytes, contract.bytes_per_cycle)

    def read_beats(self, master):
        """Beats that a master's buffer of answers must hold."""
        longest = self._memory.latency + self._added
        return self._contracts[master].burst_beats + -(-longest // self._interval(master))

    def write_beats(self, master):
        """Beats that a master's buffer of data to write must hold.

        Those of a burst stay until it is written, and so do all that are taken in the meantime.
        """
        beat = Fraction(self._memory.data_bytes, self._memory.bytes_per_cycle)
        longest = self.WRITE + sum(contract.burst_beats for contract in self._contracts) * beat
        burst = self._contracts[master].burst_beats
        return burst + 2 + -(-(longest + 2) // self._interval(master))

    def build(self, platform):
        m = Module()
        for (name, n), buffer in self._buffers.items():
            m.submodules[f"{name}_buffer_{n}"] = buffer
            m.d.comb += buffer.inject.eq(self.inject)
        buffers = self._buffers.values()
        m.d.sync += self.corrected.eq(self.corrected + sum(b.corrected for b in buffers))
        clearing = max((buffer.clear_cycles for buffer in buffers), default=0)
        if clearing:
            cleared = Signal(range(clearing + 1))
            m.d.comb += self.ready.eq(cleared == clearing)
            with m.If(~self.ready):
                m.d.sync += cleared.eq(cleared + 1)
        else:
            m.d.comb += self.ready.eq(1)

        self._add_reads(m)
        self._add_writes(m)
        return m

    def _requests(self, m, channel, n):
        """What a master asks for on a channel: valid, what it is, and what takes it."""
        port = self.masters[n]
        fields = [getattr(port, f"{channel}{part}") for part in ("addr", "len", "size", "burst")]
        valid, ready = getattr(port, f"{channel}valid"), getattr(port, f"{channel}ready")
        if not self._concurrent:
            return valid, Cat(fields), ready
        # All requests that the contract allows are taken at once.
        m.submodules[f"{channel}_{n}"] = queue = SyncFIFO(
            width=len(Cat(fields)), depth=self._contracts[n].outstanding
        )
        m.d.comb += [queue.w_en.eq(valid), queue.w_data.eq(Cat(fields)), ready.eq(queue.w_rdy)]
        return queue.r_rdy, queue.r_data, queue.r_en

    def _add_grants(self, m, channel, offers, room):
        """Put requests on the bus, the masters in turn. Returns whose, and when."""
        axi = self.axi
        parts = ("addr", "len", "size", "burst", "id")
        out = Cat(getattr(axi, f"{channel}{part}") for part in parts)
        m.submodules[f"{channel}_out"] = skid = SkidBuffer(width=len(out))
        chosen, last, grant = (
            Signal(name=f"{channel}_{name}") for name in ("chosen", "last", "grant")
        )
        (first, _, _), (second, _, _) = offers
        m.d.comb += [
            chosen.eq(Mux(first & second, ~last, second)),
            grant.eq((first | second) & room & skid.room),
            skid.go.eq(grant),
            skid.word.eq(Cat(Mux(chosen, offers[1][1], offers[0][1]), chosen)),
            getattr(axi, f"{channel}valid").eq(skid.valid),
            out.eq(skid.payload),
            skid.ready.eq(getattr(axi, f"{channel}ready")),
        ]
        for n, (_, _, take) in enumerate(offers):
            m.d.comb += take.eq(grant & (chosen == n))
        with m.If(grant):
            m.d.sync += last.eq(chosen)
        return chosen, grant

    def _add_reads(self, m):
        axi = self.axi
        offers = [self._requests(m, "ar", n) for n in range(_MASTERS)]
        if self._concurrent:
            offers = [self._paced(m, n, offer) for n, offer in enumerate(offers)]
        self._add_grants(m, "ar", offers, C(1, 1))

        rready = Signal(_MASTERS)
        for n, port in enumerate(self.masters):
            mine = Signal(name=f"answer_{n}")
            m.d.comb += [mine.eq(axi.rvalid & (axi.rid == n)), port.rid.eq(n)]
            if self._concurrent:
                buffer = self._buffers["read", n]
                answer = Cat(port.rdata, Value.cast(port.rresp), port.rlast)
                width = len(port.rdata)
                spoilt = C(Response.SLVERR.value, 2) << width
                m.d.comb += [
                    buffer.w_en.eq(mine),
                    buffer.w_data.eq(Cat(axi.rdata, Value.cast(axi.rresp), axi.rlast)),
                    answer.eq(buffer.r_data | Mux(buffer.spoilt, spoilt, 0)),
                    port.rvalid.eq(buffer.r_rdy),
                    buffer.r_en.eq(port.rready),
                    # There is room: no burst is asked for without.
                    rready[n].eq(1),
                ]
            else:
                m.d.comb += [
                    port.rdata.eq(axi.rdata),
                    port.rresp.eq(axi.rresp),
                    port.rlast.eq(axi.rlast),
                    port.rvalid.eq(mine),
                    rready[n].eq(port.rready),
                ]
        m.d.comb += axi.rready.eq(Mux(axi.rid, rready[1], rready[0]))

    def _paced(self, m, n, offer):
        """Release read requests at the master's rate, with room for what they ask for."""
        valid, request, take = offer
        contract, port, depth = self._contracts[n], self.masters[n], self.read_beats(n)
        m.submodules[f"pacer_{n}"] = pacer = Pacer(
            interval=self._interval(n), most=contract.burst_beats
        )
        # Two wait at most; where they may come in every cycle, one comes while another leaves.
        depth_released = 2 if self._interval(n) >= 2 else 3
        m.submodules[f"released_{n}"] = released = SyncFIFO(
            width=len(request), depth=depth_released
        )
        beats = Signal(9, name=f"beats_{n}")
        room = Signal(range(depth + 1), init=depth, name=f"room_{n}")
        go = Signal(name=f"go_{n}")
        m.d.comb += [
            beats.eq(request[len(port.araddr) :][:8] + 1),
            go.eq(valid & (beats <= room) & pacer.open & released.w_rdy),
            pacer.go.eq(go),
            pacer.amount.eq(beats),
            take.eq(go),
            released.w_en.eq(go),
            released.w_data.eq(request),
        ]
        m.d.sync += room.eq(room - Mux(go, beats, 0) + (port.rvalid & port.rready))
        return released.r_rdy, released.r_data, released.r_en

    def _add_writes(self, m):
        axi = self.axi
        offers = [self._requests(m, "aw", n) for n in range(_MASTERS)]
        if self._concurrent:
            data = [self._stored(m, n) for n in range(_MASTERS)]
            whole = [Signal(range(self.write_beats(n) + 1), name=f"whole_{n}") for n in (0, 1)]
            offers = [
                (valid & whole[n].any(), request, take)
                for n, (valid, request, take) in enumerate(offers)
            ]
            for n, (_, _, take) in enumerate(offers):
                port = self.masters[n]
                ended = port.wvalid & port.wready & port.wlast
                m.d.sync += whole[n].eq(whole[n] + ended - take)
        else:
            data = [
                (port.wvalid, Cat(port.wdata, port.wstrb, port.wlast), C(0, 1), port.wready)
                for port in self.masters
            ]

        # Data are in the order of the grants. Whose turn it is, one bit for each master, is a
        # register, since it is part of their ``ready``; the others wait behind it.
        m.submodules.order = order = SyncFIFO(
            width=1, depth=sum(contract.outstanding for contract in self._contracts) - 1
        )
        turn = Signal(_MASTERS)
        ended, following = Signal(), Signal()
        chosen, grant = self._add_grants(m, "aw", offers, order.w_rdy)
        word, strobes, last = (Signal.like(part) for part in (axi.wdata, axi.wstrb, axi.wlast))
        spoilt, offered, move = Signal(), Signal(), Signal()
        out = Cat(axi.wdata, axi.wstrb, axi.wlast)
        m.submodules.w_out = skid = SkidBuffer(width=len(out))
        m.d.comb += [
            following.eq(~turn.any() | ended),
            order.w_data.eq(chosen),
            order.w_en.eq(grant & ~(following & ~order.r_rdy)),
            order.r_en.eq(following),
            Cat(word, strobes, last).eq(Mux(turn[1], data[1][1], data[0][1])),
            spoilt.eq(Mux(turn[1], data[1][2], data[0][2])),
            offered.eq(Mux(turn[1], data[1][0], data[0][0])),
            move.eq(turn.any() & offered & skid.room),
            ended.eq(move & last),
            skid.go.eq(move),
            skid.word.eq(Cat(word, Mux(spoilt, 0, strobes), last)),
            axi.wvalid.eq(skid.valid),
            out.eq(skid.payload),
            skid.ready.eq(axi.wready),
        ]
        with m.If(following):
            first = Mux(order.r_rdy, order.r_data, chosen)
            m.d.sync += turn.eq(Mux(order.r_rdy | grant, Mux(first, 0b10, 0b01), 0))
        for n, (*_, take) in enumerate(data):
            # Whether it offers one or not: its ``valid`` is no part of its ``ready``.
            m.d.comb += take.eq(turn[n] & skid.room)

        bready = Signal(_MASTERS)
        for n, port in enumerate(self.masters):
            mine = Signal(name=f"written_{n}")
            m.d.comb += [mine.eq(axi.bvalid & (axi.bid == n)), port.bid.eq(n)]
            if not self._concurrent:
                m.d.comb += [
                    port.bvalid.eq(mine),
                    port.bresp.eq(axi.bresp),
                    bready[n].eq(port.bready),
                ]
                continue
            depth = self._contracts[n].outstanding
            m.submodules[f"spoilt_{n}"] = bursts = SyncFIFO(width=1, depth=depth)
            m.submodules[f"answers_{n}"] = answers = SyncFIFO(width=2, depth=depth)
            # Of the burst whose data are being sent, before this beat.
            before = Signal(name=f"spoilt_before_{n}")
            mine_moves = Signal(name=f"moves_{n}")
            m.d.comb += [
                mine_moves.eq(move & turn[n]),
                bursts.w_en.eq(mine_moves & last),
                bursts.w_data.eq(before | spoilt),
                bursts.r_en.eq(mine),
                answers.w_en.eq(mine),
                answers.w_data.eq(
                    Mux(
                        bursts.r_rdy & bursts.r_data,
                        C(Response.SLVERR.value, 2),
                        Value.cast(axi.bresp),
                    )
                ),
                port.bvalid.eq(answers.r_rdy),
                port.bresp.as_value().eq(answers.r_data),
                answers.r_en.eq(port.bready),
                bready[n].eq(1),
            ]
            with m.If(mine_moves):
                m.d.sync += before.eq((before | spoilt) & ~last)
        m.d.comb += axi.bready.eq(Mux(axi.bid, bready[1], bready[0]))

    def _stored(self, m, n):
        """Take a master's data at its rate. Returns the next beat, and what takes it."""
        port, buffer = self.masters[n], self._buffers["write", n]
        m.submodules[f"intake_{n}"] = intake = Pacer(interval=self._interval(n), most=1)
        m.d.comb += [
            port.wready.eq(intake.open & buffer.w_rdy),
            intake.go.eq(port.wvalid & port.wready),
            intake.amount.eq(1),
            buffer.w_en.eq(intake.go),
            buffer.w_data.eq(Cat(port.wdata, port.wstrb, port.wlast)),
        ]
        return buffer.r_rdy, buffer.r_data, buffer.spoilt, buffer.r_en
