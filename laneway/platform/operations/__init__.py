"""Operations: maintenance by workers, dead letters, alerts, retention and the audit."""
