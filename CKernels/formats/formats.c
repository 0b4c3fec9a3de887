/* How panels store each format, by its number. */
#include "formats.h"
#include "bfloat16.h"
#include "float32.h"

const panel_format moe_panel_formats[MOE_FORMAT_COUNT] = {
    [MOE_FLOAT32] = FLOAT32_PANEL, [MOE_BFLOAT16] = BFLOAT16_PANEL};
