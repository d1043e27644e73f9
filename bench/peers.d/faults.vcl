vcl 4.1;

# Timeouts longer than a blocking reload is held. An error is delivered and not kept: kept for as long as a part
# lasts, it would be shown to viewers who ask after the origin has recovered.
backend origin {
    .host = "@HOST@";
    .port = "@PORT@";
    .connect_timeout = 2s;
    .first_byte_timeout = 15s;
    .between_bytes_timeout = 15s;
    .max_connections = 4000;
}

sub vcl_recv {
    return (hash);
}

sub vcl_backend_response {
    set beresp.do_stream = true;
    if (beresp.status >= 500) {
        set beresp.ttl = 0s;
        set beresp.grace = 0s;
        set beresp.uncacheable = true;
        return (deliver);
    }
    set beresp.grace = 10s;
}
