-- The tables of revision 0030, for MariaDB and MySQL. What PostgreSQL's partial unique indexes
-- and NULLS NOT DISTINCT promise, unique keys with a generated column promise here; named_locks
-- is in the place of advisory locks.

CREATE TABLE IF NOT EXISTS accounts (
    id CHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    email VARCHAR(320) NOT NULL,
    lower_email VARCHAR(320) AS (LOWER(email)) VIRTUAL,
    password_hash VARCHAR(255),
    language VARCHAR(16) NOT NULL DEFAULT 'en-US',
    status VARCHAR(16) NOT NULL DEFAULT 'active',
    updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_accounts_email (email),
    UNIQUE KEY uq_accounts_lower_email (lower_email),
    CONSTRAINT ck_accounts_status
        CHECK (status IN ('pending', 'uninitialized', 'active', 'banned', 'closed'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS child_chunks (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    document_id CHAR(32) NOT NULL,
    segment_id CHAR(32) NOT NULL,
    version INT NOT NULL,
    position INT NOT NULL,
    content LONGTEXT NOT NULL,
    word_count INT NOT NULL,
    tokens INT NOT NULL,
    index_node_hash VARCHAR(64) NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_child_chunks_segment_id_position (segment_id, position),
    KEY ix_child_chunks_document_id_version (document_id, version, index_node_hash)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dead_letters (
    id CHAR(32) NOT NULL,
    message_id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    task VARCHAR(255) NOT NULL,
    queue VARCHAR(64) NOT NULL,
    args JSON NOT NULL,
    kwargs JSON NOT NULL,
    attempts INT NOT NULL DEFAULT 0,
    exception VARCHAR(255) NOT NULL,
    reason LONGTEXT NOT NULL,
    traceback LONGTEXT,
    headers JSON,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_dead_letters_created_at (created_at),
    KEY ix_dead_letters_message_id (message_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS document_segments (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    document_id CHAR(32) NOT NULL,
    version INT NOT NULL,
    position INT NOT NULL,
    content LONGTEXT NOT NULL,
    answer LONGTEXT,
    keywords JSON,
    word_count INT NOT NULL,
    tokens INT NOT NULL,
    index_node_hash VARCHAR(64) NOT NULL,
    page INT,
    status VARCHAR(16) NOT NULL DEFAULT 'completed',
    enabled BOOL NOT NULL DEFAULT true,
    error LONGTEXT,
    is_summary BOOL NOT NULL DEFAULT false,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_document_segments_document_id_version_position (document_id, version, position),
    KEY ix_document_segments_disabled (dataset_id, enabled, id),
    KEY ix_document_segments_document_id_version_index_node_hash (document_id, version, index_node_hash),
    KEY ix_document_segments_waiting (status, created_at),
    CONSTRAINT ck_document_segments_status
        CHECK (status IN ('waiting', 'indexing', 'completed', 'error'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS embeddings (
    model VARCHAR(512) NOT NULL,
    hash VARBINARY(64) NOT NULL,
    vector LONGBLOB,
    used_on DATE NOT NULL DEFAULT (CURRENT_DATE),
    PRIMARY KEY (model, hash),
    KEY ix_embeddings_used_on (used_on)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS mail_deliveries (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    recipient VARCHAR(320) NOT NULL,
    language VARCHAR(16) NOT NULL,
    fields JSON NOT NULL,
    secrets LONGTEXT,
    status VARCHAR(16) NOT NULL DEFAULT 'queued',
    copies SMALLINT NOT NULL DEFAULT 0,
    error LONGTEXT,
    header_id VARCHAR(512),
    provider VARCHAR(16),
    provider_id VARCHAR(255),
    provider_words LONGTEXT,
    message_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    handed_over_at DATETIME(6),
    ended_at DATETIME(6),
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_mail_deliveries_created_at (created_at),
    KEY ix_mail_deliveries_recipient_kind (recipient, kind, created_at),
    KEY ix_mail_deliveries_unfinished (status, lease_expires_at),
    CONSTRAINT ck_mail_deliveries_status
        CHECK (status IN ('queued', 'sending', 'unknown', 'sent', 'resent', 'failed', 'disabled'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS outbox (
    id CHAR(32) NOT NULL,
    sequence BIGINT NOT NULL AUTO_INCREMENT,
    tenant_id CHAR(32) NOT NULL,
    task VARCHAR(255) NOT NULL,
    queue VARCHAR(64) NOT NULL,
    args JSON NOT NULL,
    kwargs JSON NOT NULL,
    priority SMALLINT NOT NULL DEFAULT 0,
    available_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    published_at DATETIME(6),
    redeliveries SMALLINT NOT NULL DEFAULT 0,
    error LONGTEXT,
    headers JSON,
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_outbox_sequence (sequence),
    KEY ix_outbox_published (queue, tenant_id, published_at),
    KEY ix_outbox_due (published_at, queue, available_at),
    KEY ix_outbox_unpublished (published_at, queue, priority, tenant_id, available_at, sequence)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS removals (
    id CHAR(32) NOT NULL DEFAULT (REPLACE(UUID(), '-', '')),
    kind VARCHAR(16) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    dataset_id CHAR(32),
    document_id CHAR(32),
    upload_file_id CHAR(32),
    storage_key VARCHAR(512),
    retired_at DATETIME(6),
    message_id CHAR(32),
    due_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_removals_dataset_id (dataset_id),
    KEY ix_removals_document_id (document_id),
    KEY ix_removals_due_at (due_at),
    KEY ix_removals_storage_key (storage_key),
    CONSTRAINT ck_removals_kind
        CHECK (kind IN ('document', 'dataset', 'upload_file', 'stored_file'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS scheduled_runs (
    id CHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    started_at DATETIME(6),
    ended_at DATETIME(6),
    error LONGTEXT,
    report LONGTEXT,
    position LONGTEXT,
    total BIGINT NOT NULL DEFAULT 0,
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_scheduled_runs_name (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS segment_keywords (
    segment_id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    document_id CHAR(32) NOT NULL,
    version INT NOT NULL,
    words JSON NOT NULL,
    frequencies JSON NOT NULL,
    length INT NOT NULL,
    PRIMARY KEY (segment_id),
    KEY ix_segment_keywords_document_id_version (document_id, version),
    KEY ix_segment_keywords_dataset_id (dataset_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS task_switches (
    id CHAR(32) NOT NULL,
    action VARCHAR(8) NOT NULL,
    task VARCHAR(255),
    queue VARCHAR(64),
    tenant_id CHAR(32),
    subject_id CHAR(32),
    reason LONGTEXT NOT NULL DEFAULT (''),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    CONSTRAINT ck_task_switches_action CHECK (action IN ('hold', 'skip'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tenants (
    id CHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    priority SMALLINT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_tenants_name (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS worker_nodes (
    name VARCHAR(255) NOT NULL,
    host VARCHAR(255) NOT NULL,
    pid INT NOT NULL,
    process_created DOUBLE NOT NULL,
    pool VARCHAR(64) NOT NULL,
    concurrency INT NOT NULL,
    queues JSON NOT NULL,
    started_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    seen_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_consumed_at DATETIME(6),
    busy INT NOT NULL DEFAULT 0,
    clock_offset_seconds DOUBLE NOT NULL DEFAULT 0,
    unserved_since DATETIME(6),
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS conversations (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    title LONGTEXT,
    summary LONGTEXT,
    summary_position INT NOT NULL DEFAULT 0,
    message_count INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_conversations_tenant_id_created_at (tenant_id, created_at),
    CONSTRAINT fk_conversations_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS datasets (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    indexing_technique VARCHAR(16) NOT NULL DEFAULT 'high_quality',
    doc_form VARCHAR(32) NOT NULL DEFAULT 'text_model',
    embedding_provider VARCHAR(64) NOT NULL,
    embedding_model VARCHAR(255) NOT NULL,
    embedding_dimension INT,
    process_rule_id CHAR(32),
    index_generation INT NOT NULL DEFAULT 0,
    vector_store VARCHAR(16),
    retrieval_model JSON NOT NULL,
    last_searched_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_datasets_tenant_id_name (tenant_id, name),
    KEY ix_datasets_last_searched_at (last_searched_at),
    CONSTRAINT ck_datasets_technique CHECK (indexing_technique IN ('high_quality', 'economy')),
    CONSTRAINT ck_datasets_vector_store CHECK (vector_store IN ('pgvector', 'qdrant')),
    CONSTRAINT ck_datasets_doc_form
        CHECK (doc_form IN ('text_model', 'hierarchical_model', 'qa_model')),
    CONSTRAINT fk_datasets_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tenant_account_joins (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    account_id CHAR(32) NOT NULL,
    role VARCHAR(16) NOT NULL,
    current BOOL NOT NULL DEFAULT false,
    invited_by CHAR(32),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_tenant_account_joins_tenant_id_account_id (tenant_id, account_id),
    KEY ix_tenant_account_joins_account_id (account_id),
    CONSTRAINT ck_tenant_account_joins_role
        CHECK (role IN ('owner', 'admin', 'editor', 'normal', 'dataset_operator')),
    CONSTRAINT fk_tenant_account_joins_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT fk_tenant_account_joins_account_id
        FOREIGN KEY (account_id) REFERENCES accounts (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tenant_chat_models (
    tenant_id CHAR(32) NOT NULL,
    base_url VARCHAR(1024),
    model VARCHAR(255),
    sealed_key LONGTEXT,
    context_tokens INT,
    tokens_per_day BIGINT,
    input_cost_per_million NUMERIC(18, 6),
    output_cost_per_million NUMERIC(18, 6),
    updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (tenant_id),
    CONSTRAINT ck_tenant_chat_models_key_has_its_url
        CHECK (base_url IS NOT NULL OR sealed_key IS NULL),
    CONSTRAINT fk_tenant_chat_models_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS token_uses (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    model VARCHAR(255) NOT NULL,
    purpose VARCHAR(32) NOT NULL,
    subject_id CHAR(32),
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL DEFAULT 0,
    reserved_tokens BIGINT NOT NULL DEFAULT 0,
    is_estimated BOOL NOT NULL DEFAULT true,
    cost NUMERIC(20, 10) NOT NULL DEFAULT 0,
    finished_at DATETIME(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_token_uses_created_at (created_at),
    KEY ix_token_uses_tenant_id_created_at (tenant_id, created_at),
    CONSTRAINT fk_token_uses_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS trace_configs (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    app_id VARCHAR(256),
    app_key VARCHAR(257) AS (IF(app_id IS NULL, '', CONCAT('=', app_id))) VIRTUAL,
    provider VARCHAR(16) NOT NULL,
    endpoint VARCHAR(2048),
    secrets LONGTEXT,
    options JSON NOT NULL,
    version INT NOT NULL DEFAULT 1,
    is_enabled BOOL NOT NULL DEFAULT true,
    updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_trace_configs_tenant_id_app_id_provider (tenant_id, app_key, provider),
    CONSTRAINT fk_trace_configs_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS trace_deliveries (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    app_id VARCHAR(256),
    trace_id VARCHAR(32) NOT NULL,
    part INT NOT NULL DEFAULT 0,
    name VARCHAR(512) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    config_id CHAR(32),
    config_version INT,
    provider VARCHAR(16),
    status VARCHAR(16) NOT NULL DEFAULT 'waiting',
    payload LONGBLOB,
    storage_key VARCHAR(512),
    payload_bytes INT NOT NULL,
    schema_version SMALLINT NOT NULL DEFAULT 1,
    span_count INT NOT NULL,
    sent_spans INT NOT NULL DEFAULT 0,
    rejected_spans INT NOT NULL DEFAULT 0,
    rejections JSON NOT NULL DEFAULT ('[]'),
    error LONGTEXT,
    provider_words LONGTEXT,
    message_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    due_at DATETIME(6),
    handed_over_at DATETIME(6),
    ended_at DATETIME(6),
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_trace_deliveries_config (config_id, queued_at),
    KEY ix_trace_deliveries_ended (status, ended_at),
    KEY ix_trace_deliveries_large (payload_bytes),
    KEY ix_trace_deliveries_tenant (tenant_id, created_at),
    KEY ix_trace_deliveries_trace (trace_id),
    KEY ix_trace_deliveries_unfinished (status, lease_expires_at),
    CONSTRAINT ck_trace_deliveries_status
        CHECK (status IN ('waiting', 'sending', 'delivered', 'partial', 'failed', 'cancelled',
            'disabled')),
    CONSTRAINT fk_trace_deliveries_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS upload_files (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    storage_key VARCHAR(512) NOT NULL,
    name VARCHAR(512) NOT NULL,
    size_bytes BIGINT NOT NULL,
    mime_type VARCHAR(255) NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_upload_files_tenant_id_sha256_name (tenant_id, sha256, name),
    KEY ix_upload_files_storage_key (storage_key),
    CONSTRAINT fk_upload_files_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dataset_auto_disable_logs (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    document_id CHAR(32) NOT NULL,
    notified BOOL NOT NULL DEFAULT false,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_dataset_auto_disable_logs_created_at (created_at),
    KEY ix_dataset_auto_disable_logs_dataset_id (dataset_id),
    KEY ix_dataset_auto_disable_logs_tenant_id (tenant_id),
    KEY ix_dataset_auto_disable_logs_unnotified (tenant_id, notified, created_at),
    CONSTRAINT fk_dataset_auto_disable_logs_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT fk_dataset_auto_disable_logs_dataset_id
        FOREIGN KEY (dataset_id) REFERENCES datasets (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dataset_index_builds (
    id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    action VARCHAR(8) NOT NULL,
    generation INT NOT NULL,
    embedding_provider VARCHAR(64) NOT NULL,
    embedding_model VARCHAR(255) NOT NULL,
    embedding_dimension INT,
    vector_store VARCHAR(16),
    samples INT,
    batch_segments INT,
    requested_by VARCHAR(255),
    status VARCHAR(16) NOT NULL DEFAULT 'running',
    is_running BOOL AS (IF(status = 'running', TRUE, NULL)) VIRTUAL,
    error LONGTEXT,
    finished_at DATETIME(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY ix_dataset_index_builds_generation (dataset_id, generation),
    UNIQUE KEY ix_dataset_index_builds_running (dataset_id, is_running),
    CONSTRAINT ck_dataset_index_builds_action CHECK (action IN ('add', 'update', 'remove')),
    CONSTRAINT ck_dataset_index_builds_status
        CHECK (status IN ('running', 'completed', 'error', 'superseded')),
    CONSTRAINT ck_dataset_index_builds_vector_store CHECK (vector_store IN ('pgvector', 'qdrant')),
    CONSTRAINT fk_dataset_index_builds_dataset_id
        FOREIGN KEY (dataset_id) REFERENCES datasets (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dataset_process_rules (
    id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    mode VARCHAR(16) NOT NULL DEFAULT 'automatic',
    rules JSON NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_dataset_process_rules_dataset_id (dataset_id),
    CONSTRAINT ck_dataset_process_rules_mode
        CHECK (mode IN ('automatic', 'custom', 'hierarchical')),
    CONSTRAINT fk_dataset_process_rules_dataset_id
        FOREIGN KEY (dataset_id) REFERENCES datasets (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS frequent_words (
    dataset_id CHAR(32) NOT NULL,
    word BIGINT NOT NULL,
    share DOUBLE NOT NULL,
    PRIMARY KEY (dataset_id, word),
    CONSTRAINT fk_frequent_words_dataset_id
        FOREIGN KEY (dataset_id) REFERENCES datasets (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS keyword_totals (
    dataset_id CHAR(32) NOT NULL,
    with_keywords INT NOT NULL,
    without_keywords INT NOT NULL,
    segments BIGINT NOT NULL,
    words BIGINT NOT NULL,
    segments_then BIGINT NOT NULL,
    measured_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (dataset_id),
    CONSTRAINT fk_keyword_totals_dataset_id
        FOREIGN KEY (dataset_id) REFERENCES datasets (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS messages (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    conversation_id CHAR(32) NOT NULL,
    position INT NOT NULL,
    dataset_ids JSON NOT NULL,
    question LONGTEXT NOT NULL,
    search_options JSON NOT NULL DEFAULT ('{}'),
    status VARCHAR(16) NOT NULL DEFAULT 'waiting',
    answer LONGTEXT,
    sources JSON NOT NULL DEFAULT ('[]'),
    model VARCHAR(255),
    is_extractive BOOL NOT NULL DEFAULT false,
    cut_by VARCHAR(16),
    restarts SMALLINT NOT NULL DEFAULT 0,
    input_tokens INT,
    output_tokens INT,
    error LONGTEXT,
    cancel_requested_at DATETIME(6),
    outbox_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    first_token_at DATETIME(6),
    ended_at DATETIME(6),
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_messages_conversation_id_position (conversation_id, position),
    KEY ix_messages_tenant_id_created_at (tenant_id, created_at),
    KEY ix_messages_unfinished (conversation_id, position),
    CONSTRAINT ck_messages_status
        CHECK (status IN ('waiting', 'answering', 'completed', 'cancelled', 'error')),
    CONSTRAINT fk_messages_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT fk_messages_conversation_id
        FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS trace_breakers (
    config_id CHAR(32) NOT NULL,
    failures INT NOT NULL DEFAULT 0,
    openings INT NOT NULL DEFAULT 0,
    reason LONGTEXT NOT NULL,
    failing_since DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    open_until DATETIME(6),
    probe_until DATETIME(6),
    PRIMARY KEY (config_id),
    CONSTRAINT fk_trace_breakers_config_id
        FOREIGN KEY (config_id) REFERENCES trace_configs (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS documents (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    position INT NOT NULL,
    name VARCHAR(512) NOT NULL,
    data_source VARCHAR(16) NOT NULL,
    source_key VARCHAR(1024) NOT NULL,
    source_key_digest CHAR(64) AS (SHA2(source_key, 256)) VIRTUAL,
    upload_file_id CHAR(32),
    process_rule_id CHAR(32),
    doc_form VARCHAR(32) NOT NULL,
    doc_metadata JSON NOT NULL,
    indexing_status VARCHAR(16) NOT NULL DEFAULT 'waiting',
    index_version INT NOT NULL DEFAULT 1,
    active_version INT,
    fingerprint VARCHAR(64),
    error LONGTEXT,
    message_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    processing_started_at DATETIME(6),
    parsing_completed_at DATETIME(6),
    cleaning_completed_at DATETIME(6),
    splitting_completed_at DATETIME(6),
    completed_at DATETIME(6),
    stopped_at DATETIME(6),
    indexing_latency DOUBLE,
    word_count BIGINT NOT NULL DEFAULT 0,
    tokens BIGINT NOT NULL DEFAULT 0,
    total_segments INT NOT NULL DEFAULT 0,
    completed_segments INT NOT NULL DEFAULT 0,
    keyword_segments INT,
    keyword_words BIGINT,
    enabled BOOL NOT NULL DEFAULT true,
    disabled_at DATETIME(6),
    changed_at DATETIME(6),
    archived BOOL NOT NULL DEFAULT false,
    is_paused BOOL NOT NULL DEFAULT false,
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_documents_dataset_id_position (dataset_id, position),
    UNIQUE KEY ix_documents_dataset_id_source_key (dataset_id, source_key_digest),
    KEY ix_documents_source_key (dataset_id, source_key(255)),
    KEY ix_documents_process_rule_id (process_rule_id),
    KEY ix_documents_tenant_id (tenant_id),
    KEY ix_documents_unfinished (indexing_status, lease_expires_at),
    KEY ix_documents_upload_file_id (upload_file_id),
    CONSTRAINT ck_documents_indexing_status
        CHECK (indexing_status IN ('waiting', 'parsing', 'cleaning', 'splitting', 'indexing',
            'completed', 'error', 'paused')),
    CONSTRAINT ck_documents_data_source CHECK (data_source IN ('upload_file', 'text', 'url')),
    CONSTRAINT ck_documents_active_version CHECK (active_version <= index_version),
    CONSTRAINT fk_documents_tenant_id
        FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT fk_documents_dataset_id
        FOREIGN KEY (dataset_id) REFERENCES datasets (id) ON DELETE CASCADE,
    CONSTRAINT fk_documents_upload_file_id
        FOREIGN KEY (upload_file_id) REFERENCES upload_files (id) ON DELETE SET NULL,
    CONSTRAINT fk_documents_process_rule_id
        FOREIGN KEY (process_rule_id) REFERENCES dataset_process_rules (id) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS document_versions (
    document_id CHAR(32) NOT NULL,
    version INT NOT NULL,
    process_rule_id CHAR(32) NOT NULL,
    completed_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (document_id, version),
    CONSTRAINT fk_document_versions_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS generation_works (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    subject_id CHAR(32) NOT NULL,
    document_id CHAR(32),
    conversation_id CHAR(32),
    status VARCHAR(16) NOT NULL DEFAULT 'waiting',
    error LONGTEXT,
    message_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    completed_at DATETIME(6),
    state JSON NOT NULL DEFAULT ('{}'),
    result LONGTEXT,
    source_hash VARCHAR(64),
    model VARCHAR(255),
    is_extractive BOOL NOT NULL DEFAULT false,
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_generation_works_kind_subject_id (kind, subject_id),
    KEY ix_generation_works_conversation_id (conversation_id),
    KEY ix_generation_works_document_id (document_id),
    KEY ix_generation_works_unfinished (queued_at),
    CONSTRAINT ck_generation_works_kind
        CHECK (kind IN ('document_summary', 'qa_pairs', 'conversation_title',
            'conversation_summary')),
    CONSTRAINT ck_generation_works_status
        CHECK (status IN ('waiting', 'running', 'completed', 'error')),
    CONSTRAINT fk_generation_works_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE CASCADE,
    CONSTRAINT fk_generation_works_conversation_id
        FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS index_build_documents (
    id CHAR(32) NOT NULL,
    build_id CHAR(32) NOT NULL,
    document_id CHAR(32) NOT NULL,
    status VARCHAR(16) NOT NULL DEFAULT 'waiting',
    version INT,
    error LONGTEXT,
    verified_token BIGINT,
    vectors INT,
    message_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    PRIMARY KEY (id),
    UNIQUE KEY uq_index_build_documents_build_id_document_id (build_id, document_id),
    KEY ix_index_build_documents_build_id_status (build_id, status, document_id),
    KEY ix_index_build_documents_document_id (document_id),
    CONSTRAINT ck_index_build_documents_status CHECK (status IN ('waiting', 'completed', 'error')),
    CONSTRAINT fk_index_build_documents_build_id
        FOREIGN KEY (build_id) REFERENCES dataset_index_builds (id) ON DELETE CASCADE,
    CONSTRAINT fk_index_build_documents_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS passage_pairs (
    document_id CHAR(32) NOT NULL,
    passage_hash VARCHAR(64) NOT NULL,
    passage LONGTEXT,
    pairs JSON,
    work_id CHAR(32),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (document_id, passage_hash),
    KEY ix_passage_pairs_work_id (work_id),
    CONSTRAINT fk_passage_pairs_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS segment_edits (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    document_id CHAR(32) NOT NULL,
    segment_id CHAR(32) NOT NULL,
    version INT NOT NULL,
    content LONGTEXT NOT NULL,
    answer LONGTEXT,
    keywords JSON,
    status VARCHAR(16) NOT NULL DEFAULT 'waiting',
    error LONGTEXT,
    message_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_segment_edits_segment_id (segment_id),
    KEY ix_segment_edits_document_id (document_id),
    CONSTRAINT ck_segment_edits_status CHECK (status IN ('waiting', 'indexing', 'error')),
    CONSTRAINT fk_segment_edits_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS segment_imports (
    id CHAR(32) NOT NULL,
    tenant_id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    document_id CHAR(32) NOT NULL,
    version INT NOT NULL,
    upload_file_id CHAR(32),
    status VARCHAR(16) NOT NULL DEFAULT 'waiting',
    error LONGTEXT,
    last_row INT NOT NULL DEFAULT 0,
    imported_rows INT NOT NULL DEFAULT 0,
    refused_rows INT NOT NULL DEFAULT 0,
    problems JSON NOT NULL DEFAULT ('[]'),
    message_id CHAR(32),
    queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    completed_at DATETIME(6),
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at DATETIME(6),
    lease_owner VARCHAR(255),
    attempts INT NOT NULL DEFAULT 0,
    deaths INT NOT NULL DEFAULT 0,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_segment_imports_document_id (document_id),
    KEY ix_segment_imports_unfinished (queued_at),
    KEY ix_segment_imports_upload_file_id (upload_file_id),
    CONSTRAINT ck_segment_imports_status
        CHECK (status IN ('waiting', 'indexing', 'completed', 'error')),
    CONSTRAINT fk_segment_imports_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE CASCADE,
    CONSTRAINT fk_segment_imports_upload_file_id
        FOREIGN KEY (upload_file_id) REFERENCES upload_files (id) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS url_sources (
    document_id CHAR(32) NOT NULL,
    url LONGTEXT NOT NULL,
    final_url LONGTEXT,
    etag LONGTEXT,
    last_modified LONGTEXT,
    content_type VARCHAR(255),
    sha256 VARCHAR(64),
    checked_at DATETIME(6),
    changed_at DATETIME(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (document_id),
    CONSTRAINT fk_url_sources_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vector_writes (
    id CHAR(32) NOT NULL,
    dataset_id CHAR(32) NOT NULL,
    document_id CHAR(32),
    version INT NOT NULL,
    generation INT NOT NULL,
    dimension INT NOT NULL,
    holder_id CHAR(32) NOT NULL,
    token BIGINT NOT NULL,
    is_whole BOOL NOT NULL DEFAULT true,
    is_live BOOL NOT NULL DEFAULT false,
    swept_at DATETIME(6),
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY ix_vector_writes_document_id (document_id),
    KEY ix_vector_writes_unused (swept_at),
    CONSTRAINT fk_vector_writes_document_id
        FOREIGN KEY (document_id) REFERENCES documents (id) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vector_points (
    vector_id CHAR(32) NOT NULL,
    write_id CHAR(32) NOT NULL,
    is_current BOOL NOT NULL,
    swept_at DATETIME(6),
    PRIMARY KEY (vector_id, write_id),
    KEY ix_vector_points_unused (swept_at),
    KEY ix_vector_points_write_id (write_id),
    CONSTRAINT fk_vector_points_write_id
        FOREIGN KEY (write_id) REFERENCES vector_writes (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS celery_taskmeta (
    id BIGINT NOT NULL AUTO_INCREMENT,
    task_id VARCHAR(155),
    status VARCHAR(50),
    result LONGBLOB,
    date_done DATETIME(6),
    traceback LONGTEXT,
    children LONGBLOB,
    name VARCHAR(155),
    args LONGBLOB,
    kwargs LONGBLOB,
    worker VARCHAR(155),
    retries INT,
    queue VARCHAR(155),
    stamps LONGBLOB,
    PRIMARY KEY (id),
    UNIQUE KEY uq_celery_taskmeta_task_id (task_id),
    KEY ix_celery_taskmeta_date_done (date_done)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS celery_tasksetmeta (
    id BIGINT NOT NULL AUTO_INCREMENT,
    taskset_id VARCHAR(155),
    result LONGBLOB,
    date_done DATETIME(6),
    PRIMARY KEY (id),
    UNIQUE KEY uq_celery_tasksetmeta_taskset_id (taskset_id),
    KEY ix_celery_tasksetmeta_date_done (date_done)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS named_locks (
    name VARCHAR(255) NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
