// The form that the including file has made.
const k_forms K_FORMS = {
    .q2_decode = q2_decode,
    .q3_decode = q3_decode,
    .q4_decode = q4_decode,
    .q5_decode = q5_decode,
    .q6_decode = q6_decode,
    .q8_decode = q8_decode,
    .q2_encode = q2_encode,
    .q3_encode = q3_encode,
    .q4_encode = q4_encode,
    .q5_encode = q5_encode,
    .q6_encode = q6_encode,
    .q8_encode = q8_encode,
};
