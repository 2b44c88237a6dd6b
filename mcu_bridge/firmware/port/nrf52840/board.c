/* An nRF52840, on a board like the Arduino Nano 33 BLE: TIMER1 as clock, UARTE0 as line, WDT, an analogue sensor.
 *
 * Built and held to its budget, never run: we had no such board. As nrf52840 it starts at address 0, in the place of a
 * bootloader, and is flashed through SWD; as nano33ble it starts at 0x10000, behind Arduino's. The line is at 1 Mbaud, 8N1, on TX (P1.03) and RX (P1.10), which need an adapter to
 * USB. The sensor is what lies on A0 (P0.04), 0 to 3.6 V. */
#include "../cortex_m/board.h"
#include "../port.h"
#include "interrupts.h"
#include "registers.h"

#define CLOCK_HZ 64000000u
#define TICKS_HZ 16000000u
#define LOW_CLOCK_HZ 32768u

#define PIN(port, number) ((uint32_t)(port) * 32u + (number))
#define TX_NUMBER 3u
#define RX_NUMBER 10u
#define PIN_CNF_OUTPUT 3u /* and its input buffer off */
#define PIN_CNF_INPUT_WITH_PULL_UP (3u << 2)
#define A0_IS_AIN2 3u

#define READINGS_HZ 1000u
#define HALF_SCALE 2048.0f /* of 12 bits */

const uint32_t port_clock_hz = CLOCK_HZ;
const uint32_t port_ticks_hz = TICKS_HZ;

static uint8_t unique_id[8];
static uint32_t hardware_cause;

/* --- Start --- */

static const uint8_t switched_off[] = {UARTE0, SPIM0, SPIM1, SAADC, CCM,  QDEC,   COMP, PWM0, PDM,
                                       PWM1,   PWM2,  SPIM2, I2S,   USBD, UARTE1, QSPI, PWM3, SPIM3};

void board_stop_peripherals(void)
{
    PPI_CHENCLR = UINT32_MAX;
    RADIO_TASKS_DISABLE = 1;
    NFCT_TASKS_DISABLE = 1;
    ECB_TASKS_STOP = 1;
    USBD_USBPULLUP = 0; /* the host sees it unplugged */
    for (uint32_t i = 0; i < sizeof switched_off; i++) {
        PERIPHERAL_ENABLE(switched_off[i]) = 0;
    }
    for (uint32_t i = 0; i < GPIOTE_CONFIGS; i++) {
        GPIOTE_CONFIG(i) = 0;
    }
}

/* DEVICEID lies where the memory protection will not let anyone read. */
static void read_unique_id(void)
{
    for (uint32_t i = 0; i < sizeof unique_id; i++) {
        unique_id[i] = (uint8_t)(FICR_DEVICEID(i / 4u) >> (8u * (i % 4u)));
    }
}

static void read_reset_cause(void)
{
    const uint32_t reasons = POWER_RESETREAS;
    POWER_RESETREAS = reasons;
    if ((reasons & POWER_RESETREAS_DOG) != 0) {
        hardware_cause = PORT_RESET_WATCHDOG;
    } else if ((reasons & POWER_RESETREAS_LOCKUP) != 0) {
        hardware_cause = PORT_RESET_FAULT;
    } else {
        hardware_cause = (reasons & POWER_RESETREAS_SREQ) != 0 ? PORT_RESET_SOFTWARE : PORT_RESET_POWER;
    }
}

/* The crystal: the internal oscillator is too coarse for a serial port. It may run already, and then has no event. */
static void start_crystal(void)
{
    CLOCK_TASKS_HFCLKSTART = 1;
    while ((CLOCK_HFCLKSTAT & CLOCK_HFCLKSTAT_CRYSTAL_RUNS) != CLOCK_HFCLKSTAT_CRYSTAL_RUNS) {
    }
}

void board_start_early(void)
{
    port_watchdog_feed();
    read_unique_id();
    read_reset_cause();
    start_crystal();
}

uint32_t board_reset_cause(void)
{
    return hardware_cause;
}

void port_unique_id(uint8_t id[8])
{
    for (size_t i = 0; i < sizeof unique_id; i++) {
        id[i] = unique_id[i];
    }
}

/* --- The clock: TIMER1 counts 24 bits at 16 MHz, asleep too. Channel 0 marks each wrap, channel 1 is read --- */

static void start_clock(void)
{
    TIMER1_TASKS_STOP = 1;
    TIMER1_SHORTS = 0;
    TIMER1_INTENCLR = UINT32_MAX;
    TIMER1_MODE = 0;
    TIMER1_BITMODE = TIMER1_BITMODE_24;
    TIMER1_PRESCALER = 0;
    TIMER1_CC(0) = 0;
    TIMER1_TASKS_CLEAR = 1;
    TIMER1_EVENTS_COMPARE(0) = 0;
    TIMER1_INTENSET = TIMER1_INT_COMPARE0;
    TIMER1_TASKS_START = 1;
    NVIC_ISER(0) = 1u << TIMER1_IRQ;
}

uint32_t port_ticks(void)
{
    TIMER1_TASKS_CAPTURE(1) = 1;
    return TIMER1_CC(1);
}

bool board_wrap_is_pending(void)
{
    return TIMER1_EVENTS_COMPARE(0) != 0;
}

/* An event is still seen for a few cycles after it was cleared, unless it is read back. */
void on_timer(void)
{
    TIMER1_EVENTS_COMPARE(0) = 0;
    (void)TIMER1_EVENTS_COMPARE(0);
    clock_wrapped();
}

/* --- The line: DMA receives one byte at a time, and sends what lies in one piece ---
 *
 * An interrupt takes each byte and starts the next reception; meanwhile the receiver's own FIFO of a few bytes holds
 * what arrives, so at 1 Mbaud the interrupt may be some 40 microseconds late. A larger transfer would need a timer to
 * notice its end. */

static volatile uint8_t incoming;
static volatile uint32_t outgoing; /* bytes that the DMA is sending */

static void start_uarte(void)
{
    P1_OUTSET = 1u << TX_NUMBER;
    P1_PIN_CNF(TX_NUMBER) = PIN_CNF_OUTPUT;
    P1_PIN_CNF(RX_NUMBER) = PIN_CNF_INPUT_WITH_PULL_UP;
    UARTE0_PSEL_TXD = PIN(1, TX_NUMBER);
    UARTE0_PSEL_RXD = PIN(1, RX_NUMBER);
    UARTE0_BAUDRATE = UARTE0_BAUDRATE_1M;
    UARTE0_CONFIG = 0;
    UARTE0_SHORTS = 0;
    UARTE0_EVENTS_ENDRX = 0;
    UARTE0_EVENTS_ENDTX = 0;
    UARTE0_EVENTS_ERROR = 0;
    UARTE0_ENABLE = UARTE0_ENABLE_ENABLED;
    UARTE0_INTENCLR = UINT32_MAX;
    UARTE0_INTENSET = UARTE0_INT_ENDRX | UARTE0_INT_ENDTX | UARTE0_INT_ERROR;
    UARTE0_RXD_PTR = (uint32_t)&incoming;
    UARTE0_RXD_MAXCNT = 1;
    UARTE0_TASKS_STARTRX = 1;
    NVIC_ISER(0) = 1u << UARTE0_IRQ;
}

static void take_error(void)
{
    const uint32_t errors = UARTE0_ERRORSRC;
    UARTE0_EVENTS_ERROR = 0;
    UARTE0_ERRORSRC = errors;
    if ((errors & UARTE0_ERRORSRC_OVERRUN) != 0) {
        serial_lost(1);
    }
}

static void take_byte(void)
{
    const uint8_t byte = incoming;
    UARTE0_EVENTS_ENDRX = 0;
    UARTE0_TASKS_STARTRX = 1;
    serial_received(byte);
}

static void send_next(void)
{
    const volatile uint8_t *bytes;
    const uint32_t count = serial_next(&bytes);
    if (count > 0) {
        UARTE0_TXD_PTR = (uint32_t)bytes;
        UARTE0_TXD_MAXCNT = count;
        outgoing = count;
        UARTE0_TASKS_STARTTX = 1;
    }
}

/* Comes for each of the three events, and when board_start_sending asks. */
void on_uarte(void)
{
    if (UARTE0_EVENTS_ERROR != 0) {
        take_error();
    }
    if (UARTE0_EVENTS_ENDRX != 0) {
        take_byte();
    }
    if (UARTE0_EVENTS_ENDTX != 0) {
        UARTE0_EVENTS_ENDTX = 0;
        serial_sent(outgoing);
        outgoing = 0;
    }
    if (outgoing == 0) {
        send_next();
    }
}

void board_start_sending(void)
{
    NVIC_ISPR(0) = 1u << UARTE0_IRQ;
}

bool board_has_sent(void)
{
    return outgoing == 0;
}

/* --- The watchdog: it runs from the slow clock, asleep too, but not while a debugger holds the processor ---
 *
 * Once it runs nothing but power or the reset button stops it or changes it, a software reset neither: it may be a
 * bootloader's, with a time of its own, or ours from before. */

void port_watchdog_start(void)
{
    if (WDT_RUNSTATUS != 0) {
        port_watchdog_feed();
        return;
    }
    WDT_CRV = LOW_CLOCK_HZ / 1000u * PORT_WATCHDOG_MS + LOW_CLOCK_HZ % 1000u * PORT_WATCHDOG_MS / 1000u - 1u;
    WDT_CONFIG = WDT_CONFIG_RUN_IN_SLEEP;
    WDT_TASKS_START = 1;
}

void port_watchdog_feed(void)
{
    for (uint32_t i = 0; i < WDT_RRS; i++) {
        WDT_RR(i) = WDT_RR_RELOAD; /* all that are in use must be written; the others take no notice */
    }
}

/* --- The sensor: a voltage, read a thousand times a second. x is a stretch of it, t what came next: a forecast --- */

static volatile int16_t reading;

bool port_has_sensor(void)
{
    return true;
}

/* A voltage has no seed. */
void port_seed_sensor(uint32_t seed)
{
    (void)seed;
}

static void start_sensor(void)
{
    SAADC_INTENCLR = UINT32_MAX;
    SAADC_CH0_PSELP = A0_IS_AIN2;
    SAADC_RESOLUTION = SAADC_RESOLUTION_12_BITS;
    SAADC_RESULT_PTR = (uint32_t)&reading;
    SAADC_RESULT_MAXCNT = 1;
    SAADC_ENABLE = 1;
}

static void run_task(volatile uint32_t *task, volatile uint32_t *event)
{
    *event = 0;
    *task = 1;
    while (*event == 0) {
    }
}

/* In [-1, 1): noise around 0 V may read a little below. */
static float read_voltage(void)
{
    run_task(&SAADC_TASKS_START, &SAADC_EVENTS_STARTED);
    run_task(&SAADC_TASKS_SAMPLE, &SAADC_EVENTS_END);
    run_task(&SAADC_TASKS_STOP, &SAADC_EVENTS_STOPPED);
    const float scaled = (float)reading / HALF_SCALE - 1.0f;
    return scaled < -1.0f ? -1.0f : scaled;
}

/* Long stretches take longer than the watchdog waits. */
static void read_voltages(float *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t start = port_ticks64();
        to[i] = read_voltage();
        port_watchdog_feed();
        while (port_ticks64() - start < TICKS_HZ / READINGS_HZ) {
        }
    }
}

void port_read_sample(float *x, uint32_t inputs, float *t, uint32_t outputs)
{
    read_voltages(x, inputs);
    read_voltages(t, outputs);
}

void board_start(void)
{
    start_clock();
    start_uarte();
    start_sensor();
}
