package caddyfile

// The words of Caddy's reverse_proxy, for errors about words that it does not
// know. It alone decides which it knows.
var (
	// passedOptions are the subdirectives that klavi_proxy passes on.
	passedOptions = []string{
		"lb_policy", "lb_retries", "lb_try_duration", "lb_try_interval", "lb_retry_match",
		"max_fails", "fail_duration", "unhealthy_request_count", "unhealthy_status", "unhealthy_latency",
		"flush_interval", "request_buffers", "response_buffers", "stream_buffer_size", "stream_timeout", "stream_close_delay",
		"trusted_proxies", "header_up", "header_down", "handle_response", "replace_status", "proxy_status_name", "verbose_logs",
	}

	// httpTransportOptions are those of its http transport, which is the account's.
	httpTransportOptions = []string{
		"read_buffer", "write_buffer", "read_timeout", "write_timeout", "max_response_header", "proxy_protocol",
		"forward_proxy_url", "network_proxy", "dial_timeout", "dial_fallback_delay", "response_header_timeout",
		"expect_continue_timeout", "resolvers", "local_address", "tls", "tls_client_auth", "tls_insecure_skip_verify", "tls_curves",
		"tls_timeout", "tls_trusted_ca_certs", "tls_trust_pool", "tls_server_name", "tls_renegotiation", "tls_except_ports",
		"keepalive", "keepalive_interval", "keepalive_idle_conns", "keepalive_idle_conns_per_host", "versions", "compression",
		"max_conns_per_host",
	}
)
