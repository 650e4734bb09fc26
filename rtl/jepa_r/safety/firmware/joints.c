/* Checks of a sample of the joints. Its words: sequence, then positions and velocities. */

#include "island.h"
#include "check.h"

#define SEQUENCE 0u
#define POSITION 1u
#define VELOCITY (POSITION + JOINTS)

static uint32_t check_header(const struct packet *packet, const struct joints *joints)
{
    uint32_t lost = (packet->status & JOINT_STATUS_LOST) >> JOINT_STATUS_LOST_SHIFT;

    if ((packet->status & JOINT_STATUS_LENGTH_GOOD) == 0u) {
        return FAULT_JOINT_LENGTH;
    }
    if ((packet->status & JOINT_STATUS_CRC_GOOD) == 0u) {
        return FAULT_JOINT_CRC;
    }
    if (joints->started != 0u) {
        if (packet->words[SEQUENCE] == joints->sequence) {
            return FAULT_JOINT_REPEATED;
        }
        if ((lost > 1u) || (packet->words[SEQUENCE] != joints->sequence + 1u + lost)) {
            return FAULT_JOINT_ORDER;
        }
    }
    return FAULT_NONE;
}

static uint32_t check_values(const struct settings *limits, const struct packet *packet,
                             const struct joints *joints)
{
    uint32_t bad = 0u;
    uint32_t wide = (packet->status & JOINT_STATUS_LOST) != 0u ? 1u : 0u;
    uint32_t joint;

    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        int32_t position = (int32_t)packet->words[POSITION + joint];
        int32_t velocity = (int32_t)packet->words[VELOCITY + joint];
        int32_t speed = limits->joint_velocity[joint];
        uint32_t step = (uint32_t)limits->joint_step[joint] << wide;

        bad |= (uint32_t)(position == NOT_A_NUMBER);
        bad |= (uint32_t)(velocity == NOT_A_NUMBER) << 1;
        bad |= outside(position, limits->joint_low[joint], limits->joint_high[joint]) << 2;
        bad |= outside(velocity, -speed, speed) << 3;
        bad |= (apart(position, joints->position[joint], step) & joints->started) << 4;
    }
    /* The bits are in the order of the faults. */
    return lowest(bad, FAULT_JOINT_POSITION_NAN, 5u);
}

/* Check a sample and, if it is good, accept it; as command_check. */
uint32_t joints_check(const struct settings *limits, const struct packet *packet,
                      struct joints *joints)
{
    uint32_t fault;
    uint32_t joint;

    if ((packet->status & JOINT_STATUS_FRESH) == 0u) {
        if ((joints->started == 0u) || (joints->misses >= limits->joint_misses)) {
            return FAULT_JOINT_MISSING;
        }
        joints->misses += 1u;
        return packet->age > limits->joint_age_cycles ? FAULT_JOINT_AGE : FAULT_NONE;
    }
    fault = check_header(packet, joints);
    if ((fault == FAULT_NONE) && (packet->age > limits->joint_age_cycles)) {
        fault = FAULT_JOINT_AGE;
    }
    if (fault == FAULT_NONE) {
        fault = check_values(limits, packet, joints);
    }
    if (fault == FAULT_NONE) {
        joints->started = 1u;
        joints->sequence = packet->words[SEQUENCE];
        joints->misses = 0u;
        for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
            joints->position[joint] = (int32_t)packet->words[POSITION + joint];
            joints->velocity[joint] = (int32_t)packet->words[VELOCITY + joint];
        }
    }
    return fault;
}
