/* The cyclic executive: one pass a period, which nothing interrupts.

   The state is the hardware's. The firmware follows it, asks for changes, and trips if it finds one
   that the hardware cannot make. */

#include "island.h"

/* The flow of the program: each step of a period moves a number on, in an order that only the right
   one gives. The watchdog's token is good only if all were made; it is as wide as the token, and the
   factor is odd, so an error stays one. */
#define FLOW_NEXT(flow, step) (((flow) * 33u + (step)) & WATCHDOG_CHALLENGE_VALUE)
#define FLOW_BEGIN 0x5A3C96u
#define FLOW_TAKE 0x1B7D43u
#define FLOW_JOINTS 0x6E21F5u
#define FLOW_COMMAND 0x93D80Bu
#define FLOW_DECIDE 0xC4159Eu
#define FLOW_TORQUE 0x2F6AB8u
#define FLOW_COMMIT 0xE07C31u
#define FLOW_DECIDED                                                                               \
    FLOW_NEXT(FLOW_NEXT(FLOW_NEXT(FLOW_NEXT(FLOW_BEGIN, FLOW_TAKE), FLOW_JOINTS), FLOW_COMMAND),   \
              FLOW_DECIDE)
#define FLOW_TORQUES_3(flow)                                                                       \
    FLOW_NEXT(FLOW_NEXT(FLOW_NEXT(flow, FLOW_TORQUE), FLOW_TORQUE + 1u), FLOW_TORQUE + 2u)
#define FLOW_TORQUES_6(flow)                                                                       \
    FLOW_NEXT(FLOW_NEXT(FLOW_NEXT(FLOW_TORQUES_3(flow), FLOW_TORQUE + 3u), FLOW_TORQUE + 4u),      \
              FLOW_TORQUE + 5u)
#define FLOW_END                                                                                   \
    FLOW_NEXT(FLOW_NEXT(FLOW_TORQUES_6(FLOW_DECIDED), FLOW_TORQUE + 6u), FLOW_COMMIT)

static struct {
    uint32_t flow;
    uint32_t tick;
    uint32_t mode;    /* state of the island, as last seen or asked for */
    uint32_t commits;
    uint32_t held;    /* periods in FALLBACK */
    uint32_t disarmed; /* the operator's wish was seen absent in LOCKED */
    uint32_t calm;     /* that for a restart was seen absent in STOP */
    struct packet packet;
    struct joints joints;
    struct commands commands;
    struct command target;
    int32_t torque[JOINTS];
} self;

static void flow(uint32_t step)
{
    self.flow = FLOW_NEXT(self.flow, step);
}

static void log_fault(uint32_t fault)
{
    if (REGISTER(REG_FAULT) == FAULT_NONE) {
        REGISTER(REG_FAULT) = fault;
    }
}

static void request_stop(uint32_t fault)
{
    log_fault(fault);
    REGISTER(REG_REQUEST) = KEY_REQUEST_STOP;
    self.mode = STATE_STOP;
}

static void request_trip(uint32_t fault)
{
    log_fault(fault);
    REGISTER(REG_REQUEST) = KEY_REQUEST_TRIP;
    self.mode = STATE_TRIP;
}

/* Hold the position of the last good sample. In FALLBACK, which the hardware may have entered, the
   key confirms it. */
static void hold(uint32_t fault)
{
    uint32_t joint;

    log_fault(fault);
    REGISTER(REG_REQUEST) = KEY_REQUEST_FALLBACK;
    self.mode = STATE_FALLBACK;
    self.held = 0u;
    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        self.target.position[joint] = self.joints.position[joint];
        self.target.torque[joint] = 0;
    }
}

/* Before the first command, steps are measured from the arm at rest where it is. */
static void forget_commands(void)
{
    uint32_t joint;

    self.commands.started = 0u;
    self.commands.misses = 0u;
    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        self.commands.last.position[joint] = self.joints.position[joint];
        self.commands.last.velocity[joint] = 0;
        self.commands.last.torque[joint] = 0;
    }
}

/* The target is the last command that was accepted. */
static void follow(void)
{
    uint32_t joint;

    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        self.target.position[joint] = self.commands.last.position[joint];
        self.target.torque[joint] = self.commands.last.torque[joint];
    }
}

static void take(uint32_t status, uint32_t age, uint32_t words, uint32_t count)
{
    uint32_t n;

    self.packet.status = REGISTER(status);
    self.packet.age = REGISTER(age);
    for (n = 0u; n < count; ++n) { /* bound: COMMAND_COUNT */
        self.packet.words[n] = ELEMENT(words, n);
    }
}

/* Whether the emergency stop is released: its pair is antivalent. */
static uint32_t released(uint32_t inputs)
{
    return (inputs & (INPUTS_ESTOP_A | INPUTS_ESTOP_B)) == INPUTS_ESTOP_A ? 1u : 0u;
}

static void when_locked(uint32_t inputs, uint32_t fault, uint32_t joint_fault)
{
    if (joint_fault != FAULT_NONE) {
        self.joints.started = 0u;
    }
    if ((inputs & INPUTS_ARM) == 0u) {
        self.disarmed = 1u;
    } else if ((self.disarmed != 0u) && (released(inputs) != 0u) && (fault == FAULT_NONE)
               && (joint_fault == FAULT_NONE)) {
        REGISTER(REG_REQUEST) = KEY_REQUEST_RUN;
        self.mode = STATE_RUN;
        follow();
    } else {
        /* Wait for the wish to be taken back, for the release, or for good packets. */
    }
}

static void when_running(uint32_t fault, uint32_t joint_fault)
{
    if (joint_fault != FAULT_NONE) {
        request_stop(joint_fault);
    } else if (fault != FAULT_NONE) {
        hold(fault);
    } else {
        follow();
    }
}

static void when_fallen_back(uint32_t joint_fault)
{
    if (self.mode != STATE_FALLBACK) {
        hold(FAULT_DEADLINE);
    }
    self.held += 1u;
    if (joint_fault != FAULT_NONE) {
        request_stop(joint_fault);
    } else if (self.held > settings.fallback_periods) {
        request_stop(FAULT_FALLBACK_BOUND);
    } else {
        /* Hold on. */
    }
}

static void when_stopped(uint32_t inputs)
{
    self.mode = STATE_STOP;
    if ((inputs & INPUTS_RESTART) == 0u) {
        self.calm = 1u;
    } else if (self.calm != 0u) {
        REGISTER(REG_REQUEST) = KEY_REQUEST_RESTART;
    } else {
        /* Wait for the wish to be taken back. */
    }
}

static void decide(uint32_t fault, uint32_t joint_fault)
{
    uint32_t state = REGISTER(REG_STATE);
    uint32_t inputs = REGISTER(REG_INPUTS);
    uint32_t overrun = REGISTER(REG_TICK) != self.tick ? 1u : 0u;

    if (((state == STATE_RUN) || (state == STATE_FALLBACK)) && (released(inputs) == 0u)) {
        request_trip(FAULT_ESTOP);
    } else if ((state == STATE_LOCKED) && (self.mode == STATE_LOCKED)) {
        when_locked(inputs, fault, joint_fault);
    } else if ((state == STATE_RUN) && (self.mode == STATE_RUN)) {
        if (overrun != 0u) {
            request_stop(FAULT_OVERRUN);
        } else if (REGISTER(REG_TORQUE_STATUS) != 0u) {
            request_stop(FAULT_LIMITER);
        } else {
            when_running(fault, joint_fault);
        }
    } else if ((state == STATE_FALLBACK)
               && ((self.mode == STATE_RUN) || (self.mode == STATE_FALLBACK))) {
        when_fallen_back(joint_fault);
    } else if (state == STATE_STOP) {
        when_stopped(inputs);
    } else if (state == STATE_TRIP) {
        self.mode = STATE_TRIP;
    } else {
        request_trip(FAULT_STATE);
    }
    if (self.mode == STATE_LOCKED) {
        forget_commands();
    }
}

/* Torques of this period to their registers; zero unless the arm may move. */
static void write_torques(void)
{
    uint32_t moves = (self.mode == STATE_RUN) || (self.mode == STATE_FALLBACK) ? 1u : 0u;
    uint32_t joint;

    if (moves != 0u) {
        impedance(&settings, &self.target, &self.joints, self.torque);
    }
    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        if (moves == 0u) {
            self.torque[joint] = 0;
        }
        ELEMENT(REG_TORQUE, joint) = (uint32_t)self.torque[joint];
        flow(FLOW_TORQUE + joint);
    }
}

/* In STOP and TRIP the gate is closed, and a jump to zero would be one too fast. */
static void commit(void)
{
    if ((self.mode != STATE_STOP) && (self.mode != STATE_TRIP)) {
        uint32_t sequence;

        self.commits = (self.commits + 1u) & 0xFFFFu;
        sequence = self.commits;
        REGISTER(REG_TORQUE_COMMIT) = sequence | ((sequence ^ 0xFFFFu) << 16);
    }
}

static void serve_watchdog(void)
{
    uint32_t token = watchdog_token(REGISTER(REG_WATCHDOG_CHALLENGE));

    REGISTER(REG_WATCHDOG_TOKEN) = token ^ self.flow ^ FLOW_END;
    self.flow = FLOW_BEGIN;
}

/* One pass: packets in, checks, decision, torques out, token. */
void period(void)
{
    uint32_t fault;
    uint32_t joint_fault;

    self.tick += 1u;
    REGISTER(REG_TAKE) = TAKE_COMMAND | TAKE_JOINT;
    flow(FLOW_TAKE);

    take(REG_JOINT_STATUS, REG_JOINT_AGE, REG_JOINT, JOINT_COUNT);
    joint_fault = joints_check(&settings, &self.packet, &self.joints);
    flow(FLOW_JOINTS);

    take(REG_COMMAND_STATUS, REG_COMMAND_AGE, REG_COMMAND, COMMAND_COUNT);
    fault = command_check(&settings, &self.packet, &self.commands);
    flow(FLOW_COMMAND);

    decide(fault, joint_fault);
    flow(FLOW_DECIDE);

    write_torques();
    commit();
    flow(FLOW_COMMIT);

    REGISTER(REG_TICK_DONE) = 1u;
    serve_watchdog();
}

/* Between periods: the hardware left RUN, so hold at once. Its steps are not part of a period's
   flow. */
void fall_back(void)
{
    uint32_t kept = self.flow;

    hold(FAULT_DEADLINE);
    write_torques();
    commit();
    self.flow = kept;
}

void cycle(void)
{
    self.flow = FLOW_BEGIN;
    self.mode = STATE_LOCKED;
    self.tick = REGISTER(REG_TICK);
    for (;;) {
        if (REGISTER(REG_TICK) != self.tick) {
            period();
        } else if ((self.mode == STATE_RUN) && (REGISTER(REG_STATE) == STATE_FALLBACK)) {
            fall_back();
        } else {
            /* Nothing to do yet. */
        }
    }
}
